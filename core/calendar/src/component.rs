//! One number of a calendar, such as the hour: which values it may have.

use std::fmt;

/// No parts: any value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Component(Vec<Part>);

/// `first`, or from `first` to `last` in steps of `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    first: u16,
    /// None with `every`: as far as it goes.
    last: Option<u16>,
    every: Option<u16>,
}

impl Part {
    pub fn one(value: u16) -> Part {
        Part { first: value, last: None, every: None }
    }

    /// As it is written in its normal form: a range ends with a value that it has.
    pub fn new(first: u16, last: Option<u16>, every: Option<u16>) -> Part {
        match (last, every) {
            (Some(last), every) => {
                let step = every.unwrap_or(1).max(1);
                let last = last.saturating_sub(last.saturating_sub(first) % step);
                if last <= first {
                    Part::one(first)
                } else {
                    Part { first, last: Some(last), every: every.filter(|step| *step != 1) }
                }
            }
            (None, every) => Part { first, last, every },
        }
    }

    fn has(self, value: u16) -> bool {
        match (self.last, self.every) {
            (None, None) => value == self.first,
            (last, every) => {
                let within = value >= self.first && last.is_none_or(|last| value <= last);
                within && (value - self.first).is_multiple_of(every.unwrap_or(1).max(1))
            }
        }
    }
}

impl Component {
    pub fn new(mut parts: Vec<Part>) -> Component {
        parts.sort_unstable();
        parts.dedup();
        Component(parts)
    }

    pub fn one(value: u16) -> Component {
        Component(vec![Part::one(value)])
    }

    pub fn has(&self, value: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|part| part.has(value))
    }

    /// Of a day counted from the end of its month. A step without an end goes on to the last day: `07/1` are the last seven.
    pub fn has_from_end(&self, value: u16) -> bool {
        let has = |part: &Part| match *part {
            Part { first, last: None, every: Some(every) } => {
                value <= first && (first - value).is_multiple_of(every.max(1))
            }
            part => part.has(value),
        };
        self.0.is_empty() || self.0.iter().any(has)
    }

    /// As it is written, with so many digits.
    pub fn show(&self, f: &mut fmt::Formatter<'_>, digits: usize) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("*");
        }
        for (i, part) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{:0digits$}", part.first)?;
            if let Some(last) = part.last {
                write!(f, "..{last:0digits$}")?;
            }
            if let Some(every) = part.every {
                write!(f, "/{every}")?;
            }
        }
        Ok(())
    }
}
