//! Protobuf fields straight into a buffer. Values that are zero or empty are left out unless `some_` says so.

const WIRE_VARINT: u32 = 0;
const WIRE_FIXED64: u32 = 1;
const WIRE_LEN: u32 = 2;

#[inline]
pub(crate) fn varint(buf: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buf.push((value as u8) | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

#[inline]
fn key(buf: &mut Vec<u8>, tag: u32, wire: u32) {
    varint(buf, u64::from(tag << 3 | wire));
}

#[inline]
pub(crate) fn uint(buf: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        some_uint(buf, tag, value);
    }
}

#[inline]
pub(crate) fn some_uint(buf: &mut Vec<u8>, tag: u32, value: u64) {
    key(buf, tag, WIRE_VARINT);
    varint(buf, value);
}

#[inline]
pub(crate) fn opt_uint(buf: &mut Vec<u8>, tag: u32, value: Option<u64>) {
    if let Some(value) = value {
        some_uint(buf, tag, value);
    }
}

#[inline]
pub(crate) fn flag(buf: &mut Vec<u8>, tag: u32, value: bool) {
    uint(buf, tag, u64::from(value));
}

#[inline]
pub(crate) fn fixed(buf: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        some_fixed(buf, tag, value);
    }
}

#[inline]
fn some_fixed(buf: &mut Vec<u8>, tag: u32, value: u64) {
    key(buf, tag, WIRE_FIXED64);
    buf.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn opt_double(buf: &mut Vec<u8>, tag: u32, value: Option<f64>) {
    if let Some(value) = value {
        some_fixed(buf, tag, value.to_bits());
    }
}

pub(crate) fn double(buf: &mut Vec<u8>, tag: u32, value: f64) {
    fixed(buf, tag, value.to_bits());
}

#[inline]
pub(crate) fn some_bytes(buf: &mut Vec<u8>, tag: u32, value: &[u8]) {
    key(buf, tag, WIRE_LEN);
    varint(buf, value.len() as u64);
    buf.extend_from_slice(value);
}

#[inline]
pub(crate) fn bytes(buf: &mut Vec<u8>, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        some_bytes(buf, tag, value);
    }
}

#[inline]
pub(crate) fn text(buf: &mut Vec<u8>, tag: u32, value: &str) {
    bytes(buf, tag, value.as_bytes());
}

#[inline]
pub(crate) fn opt_text(buf: &mut Vec<u8>, tag: u32, value: Option<&str>) {
    if let Some(value) = value {
        some_bytes(buf, tag, value.as_bytes());
    }
}

/// A nested message. One byte is kept for its length and widened afterwards where that is too little: most
/// messages are short, and moving the rest is cheaper than measuring all of them first.
#[inline]
pub(crate) fn nested(buf: &mut Vec<u8>, tag: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    key(buf, tag, WIRE_LEN);
    let at = buf.len();
    buf.push(0);
    fill(buf);
    let len = buf.len() - at - 1;
    if len < 0x80 {
        buf[at] = len as u8;
        return;
    }
    let mut prefix = [0_u8; 10];
    let mut width = 0;
    let mut rest = len;
    while rest >= 0x80 {
        prefix[width] = (rest as u8) | 0x80;
        rest >>= 7;
        width += 1;
    }
    prefix[width] = rest as u8;
    width += 1;
    let end = buf.len();
    buf.resize(end + width - 1, 0);
    buf.copy_within(at + 1..end, at + width);
    buf[at..at + width].copy_from_slice(&prefix[..width]);
}
