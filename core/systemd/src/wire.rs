//! D-Bus messages as bytes (D-Bus specification, "Type System" and "Message Protocol"): little-endian, each value aligned to its size.

/// Longer messages are none that we wait for. The specification allows 128 MiB.
pub const BYTES_MAX: usize = 1 << 20;
/// Every message begins with this much that tells how long it is.
pub const FIXED_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

/// What we send: values are appended one after the other, aligned as they need.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
    signature: String,
}

impl Body {
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.signature.push('s');
        put_string(&mut self.bytes, text);
        self
    }

    /// An array of unsigned numbers, `au`.
    pub fn numbers(&mut self, numbers: &[u32]) -> &mut Self {
        self.signature.push_str("au");
        put_array(&mut self.bytes, 4, |bytes| numbers.iter().for_each(|n| put_u32(bytes, *n)));
        self
    }

    /// `a(sv)`: named values.
    pub fn properties(&mut self, properties: &[(&str, Value<'_>)]) -> &mut Self {
        self.signature.push_str("a(sv)");
        put_array(&mut self.bytes, 8, |bytes| {
            for (name, value) in properties {
                align(bytes, 8);
                put_string(bytes, name);
                value.put(bytes);
            }
        });
        self
    }

    /// An empty array of auxiliary units, `a(sa(sv))`.
    pub fn no_units(&mut self) -> &mut Self {
        self.signature.push_str("a(sa(sv))");
        put_array(&mut self.bytes, 8, |_| {});
        self
    }
}

/// A value that says its own type.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Flag(bool),
    Number(u64),
    Numbers(&'a [u32]),
    Texts(&'a [&'a str]),
}

impl Value<'_> {
    fn put(self, bytes: &mut Vec<u8>) {
        let signature = match self {
            Value::Text(_) => "s",
            Value::Flag(_) => "b",
            Value::Number(_) => "t",
            Value::Numbers(_) => "au",
            Value::Texts(_) => "as",
        };
        put_signature(bytes, signature);
        match self {
            Value::Text(text) => put_string(bytes, text),
            Value::Flag(flag) => put_u32(bytes, flag.into()),
            Value::Number(number) => {
                align(bytes, 8);
                bytes.extend(number.to_le_bytes());
            }
            Value::Numbers(numbers) => {
                put_array(bytes, 4, |bytes| numbers.iter().for_each(|n| put_u32(bytes, *n)));
            }
            Value::Texts(texts) => {
                put_array(bytes, 4, |bytes| texts.iter().for_each(|text| put_string(bytes, text)));
            }
        }
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub service: &'a str,
    pub object: &'a str,
    pub interface: &'a str,
    pub method: &'a str,
}

/// A call as it is sent. `serial` is not 0 and not used before on this connection.
pub fn call(serial: u32, target: Target<'_>, body: &Body) -> Vec<u8> {
    let mut bytes = vec![b'l', 1, 0, 1];
    put_u32(&mut bytes, size(body.bytes.len()));
    put_u32(&mut bytes, serial);
    put_array(&mut bytes, 8, |bytes| {
        for (code, kind, text) in [
            (1, "o", target.object),
            (2, "s", target.interface),
            (3, "s", target.method),
            (6, "s", target.service),
            (8, "g", &body.signature),
        ] {
            if text.is_empty() {
                continue;
            }
            align(bytes, 8);
            bytes.push(code);
            put_signature(bytes, kind);
            match kind {
                "g" => put_signature(bytes, text),
                _ => put_string(bytes, text),
            }
        }
    });
    align(&mut bytes, 8);
    bytes.extend(&body.bytes);
    bytes
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    /// Of the call that this answers.
    pub answers: u32,
    /// The method's or signal's name, or the error's.
    pub name: String,
    /// The strings and object paths of the body, in order; what else is in it is left out.
    pub texts: Vec<String>,
}

/// The length of the whole message whose first [`FIXED_BYTES`] these are; none if it is no message that we can read.
pub fn length(fixed: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes: fixed, at: 0, big: false };
    reader.big = match reader.u8()? {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    reader.at = 4;
    let body = reader.u32()? as usize;
    reader.at = 12;
    let header = reader.u32()? as usize;
    let whole = FIXED_BYTES.checked_add(header)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (whole <= BYTES_MAX).then_some(whole)
}

/// Reads a whole message; none if it is not one.
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let big = bytes.first() == Some(&b'B');
    let mut reader = Reader { bytes, at: 1, big };
    let kind = match reader.u8()? {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return None,
    };
    reader.at = 12;
    let end = (reader.u32()? as usize).checked_add(FIXED_BYTES)?;
    let mut message = Message { kind, answers: 0, name: String::new(), texts: Vec::new() };
    let mut signature = String::new();
    while reader.at < end {
        reader.align(8);
        let code = reader.u8()?;
        let value = reader.signature()?;
        match (code, value.as_str()) {
            (3 | 4, "s") => message.name = reader.string()?,
            (5, "u") => message.answers = reader.u32()?,
            (8, "g") => signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.string()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return None,
        }
    }
    reader.align(8);
    for kind in signature.chars() {
        match kind {
            's' | 'o' => message.texts.push(reader.string()?),
            'u' | 'b' | 'i' => drop(reader.u32()?),
            // What follows is nothing that we ask for.
            _ => break,
        }
    }
    Some(message)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let big = self.big;
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self, count: usize) -> Option<String> {
        let text = String::from_utf8(self.take(count)?.to_vec()).ok()?;
        (self.u8()? == 0).then_some(text)
    }

    fn string(&mut self) -> Option<String> {
        let count = self.u32()? as usize;
        self.text(count)
    }

    fn signature(&mut self) -> Option<String> {
        let count = self.u8()?.into();
        self.text(count)
    }
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    align(bytes, 4);
    bytes.extend(number.to_le_bytes());
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    put_u32(bytes, size(text.len()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// A signature's length is one byte.
fn put_signature(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// The length does not count the padding before the first element.
fn put_array(bytes: &mut Vec<u8>, element: usize, elements: impl FnOnce(&mut Vec<u8>)) {
    put_u32(bytes, 0);
    let length_at = bytes.len() - 4;
    align(bytes, element);
    let begin = bytes.len();
    elements(bytes);
    let length = size(bytes.len() - begin).to_le_bytes();
    if let Some(place) = bytes.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length);
    }
}

/// Nothing that we send comes near the limit.
fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
