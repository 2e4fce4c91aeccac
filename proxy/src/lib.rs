//! Serin: the proxy.
