//! Serin: an HTTP/1.1, HTTP/2 and gRPC proxy with dtab routing.
//!
//! # The way of a request
//! 1. [`worker`] accepts on this core's own listener, or takes over what another accepted ([`handover`]); [`conn`] finds out whether it speaks HTTP/1.1 or HTTP/2.
//! 2. [`stack`] is called once for each request or stream: observe, respond, admit, hygiene, route, deadline.
//! 3. [`router`] names the request, [`bindings`] keeps the bound tree of that name, the pick over it is pure.
//! 4. [`forward`] takes a connection from [`pool`], sends, and hands back a response whose body streams.
//! 5. The end of the body ends the request: counters, splits and endpoints learn from it in [`inflight`].
//!
//! # The two planes
//! Workers (one thread a core) share nothing but the pointer in [`snapshot::World`]; [`control`] is its only writer.

pub mod accept;
pub mod admin;
pub mod admission;
pub mod arms;
pub mod assemble;
pub mod balance;
pub mod bindings;
pub mod body;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod conn;
pub mod context;
pub mod control;
pub mod demo;
pub mod dtabs;
pub mod egress;
pub mod endpoints;
pub mod error;
pub mod evidence;
pub mod exchange;
pub mod floods;
pub mod forward;
pub mod grpc;
pub mod h1;
pub mod handover;
pub mod inflight;
pub mod judge;
pub mod layers;
pub mod ledger;
pub mod listener;
pub mod local;
pub mod logging;
pub mod memory;
pub mod mirror;
pub mod namerd;
pub mod outlier;
pub mod outside;
pub mod own_address;
pub mod patient;
mod plain_file;
pub mod pool;
pub mod resolve;
pub mod retry;
pub mod router;
pub mod snapshot;
pub mod stack;
pub mod stall;
pub mod sticky;
pub mod storage;
pub mod stream;
pub mod worker;
pub mod world;
