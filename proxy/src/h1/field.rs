//! Which fields the codec treats by itself. Names are told apart by length first: most fields cost one jump.

/// What the codec does with a field of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Nominates fields that end with this hop.
    Connection,
    /// One of the two fields that frame a body.
    ContentLength,
    /// Belongs to one hop: `keep-alive`, `proxy-connection`, `upgrade`.
    Hop,
    /// Written from the authority, never from the fields.
    Host,
    /// All else passes.
    Other,
    /// `te`: only `trailers` passes, and only in a request.
    Te,
    /// One of the two fields that frame a body.
    TransferEncoding,
}

impl Field {
    /// The kind of a field by its name, in any case.
    #[inline]
    pub(super) fn of(name: &[u8]) -> Field {
        match name.len() {
            2 if is(name, b"te") => Field::Te,
            4 if is(name, b"host") => Field::Host,
            7 if is(name, b"upgrade") => Field::Hop,
            10 if is(name, b"connection") => Field::Connection,
            10 if is(name, b"keep-alive") => Field::Hop,
            14 if is(name, b"content-length") => Field::ContentLength,
            16 if is(name, b"proxy-connection") => Field::Hop,
            17 if is(name, b"transfer-encoding") => Field::TransferEncoding,
            _ => Field::Other,
        }
    }
}

/// Whether `Connection` may take the field away. It must not take what the proxy itself relies on, nor `trailer`, which
/// announces the fields behind a body.
pub(super) fn may_be_nominated(name: &[u8]) -> bool {
    Field::of(name) == Field::Other && !is_any(name, NOMINATION_PROOF) && !has_context_prefix(name)
}

/// Whether a field may stand behind a body: not framing, routing, authentication, request control, content handling,
/// forwarding or context (RFC 9110 6.5.1). Such fields are dropped, in both directions.
pub(crate) fn may_be_trailer(name: &[u8]) -> bool {
    Field::of(name) == Field::Other && !is_any(name, NOT_IN_TRAILERS) && !has_context_prefix(name)
}

/// Context and forwarding fields.
fn has_context_prefix(name: &[u8]) -> bool {
    CONTEXT_PREFIXES.iter().any(|prefix| begins(name, prefix))
}

fn is_any(name: &[u8], list: &[&[u8]]) -> bool {
    list.iter().any(|known| reads_as(name, known))
}

fn is(name: &[u8], lower_case: &[u8]) -> bool {
    name.eq_ignore_ascii_case(lower_case)
}

/// Whether an application may take one name for the other: in any case, and with an underscore for any hyphen, as
/// gateways of the CGI kind read them.
pub(crate) fn reads_as(name: &[u8], lower_case: &[u8]) -> bool {
    name.len() == lower_case.len() && begins(name, lower_case)
}

/// Whether an application may take a name for one that begins so; see [`reads_as`].
pub(crate) fn begins(name: &[u8], lower_case: &[u8]) -> bool {
    name.len() >= lower_case.len()
        && name
            .iter()
            .zip(lower_case)
            .all(|(&have, &want)| have.eq_ignore_ascii_case(&want) || (want == b'-' && have == b'_'))
}

const CONTEXT_PREFIXES: &[&[u8]] = &[b"l5d-", b"x-forwarded-", b"x-dtab-"];

const NOMINATION_PROOF: &[&[u8]] =
    &[b"authorization", b"cookie", b"dtab-local", b"forwarded", b"set-cookie", b"trailer", b"via", b"x-real-ip"];

const NOT_IN_TRAILERS: &[&[u8]] = &[
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"dtab-local",
    b"expect",
    b"expires",
    b"forwarded",
    b"location",
    b"max-forwards",
    b"pragma",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-authorization",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"trailer",
    b"vary",
    b"via",
    b"www-authenticate",
    b"x-real-ip",
];
