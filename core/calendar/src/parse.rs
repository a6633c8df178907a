//! Text to calendar and back. What is wrong is said together with what to write.

use crate::Calendar;
use crate::component::{Component, Part};
use std::fmt;

/// Why a text is no calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub what: String,
    /// What to write.
    pub hint: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.hint)
    }
}

impl std::error::Error for Wrong {}

fn wrong<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what: what.into(), hint: hint.into() })
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Longer than any calendar that means something.
const LENGTH_MAX: usize = 1024;

const SHORT: [(&str, &str); 9] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];

/// What a number of the calendar is called, and what it may be.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
}

const YEAR: Field = Field { name: "year", min: 1970, max: 2199 };
const MONTH: Field = Field { name: "month", min: 1, max: 12 };
const DAY: Field = Field { name: "day", min: 1, max: 31 };
const HOUR: Field = Field { name: "hour", min: 0, max: 23 };
const MINUTE: Field = Field { name: "minute", min: 0, max: 59 };
const SECOND: Field = Field { name: "second", min: 0, max: 59 };

impl Calendar {
    /// Also refused: what never comes, like the 30th of February.
    pub fn parse(text: &str) -> Result<Calendar, Wrong> {
        if text.len() > LENGTH_MAX {
            return wrong("a calendar is not that long", "as \"Mon..Fri 03:00\"");
        }
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let zone = words.pop_if(|word| is_zone(word)).map(str::to_owned);
        if words.is_empty() {
            return wrong("no time at all", "as \"daily\", \"Mon..Fri 03:00\" or \"*-*-01 12:30\"");
        }
        let calendar = Calendar { zone, ..of_words(&words)? };
        if !calendar.ever_comes() {
            return wrong(format!("{calendar} never comes"), "no day of any year fits it");
        }
        Ok(calendar)
    }
}

/// A zone's name begins with a letter, as a weekday does and the words for whole calendars.
fn is_zone(word: &str) -> bool {
    let letter = word.starts_with(|c: char| c.is_ascii_alphabetic());
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    let short = SHORT.iter().any(|(name, _)| name.eq_ignore_ascii_case(word));
    letter && word.chars().all(name) && !short && weekday(word.split(['-']).next().unwrap_or(word)).is_none()
}

fn of_words(words: &[&str]) -> Result<Calendar, Wrong> {
    if let [word] = words
        && let Some((_, long)) = SHORT.iter().find(|(name, _)| name.eq_ignore_ascii_case(word))
    {
        return of_words(&long.split(' ').collect::<Vec<_>>());
    }
    let (weekdays, rest) = match words {
        [first, rest @ ..] if first.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            (weekdays(first)?, rest)
        }
        rest => (0, rest),
    };
    let (date, time) = match rest {
        [] => (None, None),
        [time] if time.contains(':') => (None, Some(*time)),
        [date] => (Some(*date), None),
        [date, time] => (Some(*date), Some(*time)),
        [_, _, _, _, _] if weekdays == 0 => {
            return wrong("cron's form", "as \"03:00\", \"Mon..Fri *:0/15\" or \"*-*-01 12:30\"");
        }
        [_, _, more, ..] => {
            return wrong(format!("`{more}` is too much"), "a calendar is [WEEKDAYS] [DATE] [TIME] [ZONE]");
        }
    };
    let (year, month, day, from_end) = date.map_or(Ok((any(), any(), any(), false)), of_date)?;
    let midnight = || (Component::one(0), Component::one(0), Component::one(0));
    let (hour, minute, second) = time.map_or(Ok(midnight()), of_time)?;
    Ok(Calendar { weekdays, year, month, day, from_end, hour, minute, second, zone: None })
}

fn any() -> Component {
    Component::default()
}

/// The number of a day, by its name or the first three letters of it.
fn weekday(name: &str) -> Option<usize> {
    DAYS.iter().position(|day| {
        day.eq_ignore_ascii_case(name) || day.get(..3).is_some_and(|d| d.eq_ignore_ascii_case(name))
    })
}

fn weekdays(text: &str) -> Result<u8, Wrong> {
    let day = |name: &str| match weekday(name) {
        Some(day) => Ok(day),
        None => wrong(
            format!("`{name}` is no weekday"),
            "Mon, Tue, Wed, Thu, Fri, Sat, Sun; or daily, hourly and the like, alone",
        ),
    };
    let mut bits = 0;
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        let (first, last) = part.split_once("..").or_else(|| part.split_once('-')).unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        if first > last {
            let hint = format!("a week begins on Monday: {}..Sun,Mon..{}", short_day(first), short_day(last));
            return wrong(format!("`{part}` goes backwards"), hint);
        }
        bits |= (first..=last).fold(0, |bits, day| bits | 1 << day);
    }
    Ok(bits)
}

fn short_day(day: usize) -> &'static str {
    DAYS.get(day).and_then(|name| name.get(..3)).unwrap_or_default()
}

type Date = (Component, Component, Component, bool);

/// `[[YEAR-]MONTH-]DAY`; with `~` before the day that counts from the month's end.
fn of_date(text: &str) -> Result<Date, Wrong> {
    let (before, day, from_end) = match text.split_once('~') {
        Some((before, day)) => (Some(before), day, true),
        None => match text.rsplit_once('-') {
            Some((before, day)) => (Some(before), day, false),
            None => (None, text, false),
        },
    };
    let Some(before) = before else {
        return wrong(format!("`{text}` is neither a date nor a time"), "as 2027-12-31, *-*-01 or 03:00");
    };
    let (year, month) = match before.split_once('-') {
        Some((year, month)) => (component(year, YEAR)?, month),
        None => (any(), before),
    };
    if month.contains('-') {
        return wrong(
            format!("`{text}` has more than year, month and day"),
            "as 2027-12-31; a range is written 1..5",
        );
    }
    Ok((year, component(month, MONTH)?, component(day, DAY)?, from_end))
}

fn of_time(text: &str) -> Result<(Component, Component, Component), Wrong> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (*hour, *minute, None),
        [hour, minute, second] => (*hour, *minute, Some(*second)),
        _ => return wrong(format!("`{text}` is no time"), "as 03:00, *:0/15 or 12:30:15"),
    };
    let second = second.map_or(Ok(Component::one(0)), |text| component(text, SECOND))?;
    Ok((component(hour, HOUR)?, component(minute, MINUTE)?, second))
}

fn component(text: &str, field: Field) -> Result<Component, Wrong> {
    if text == "*" {
        return Ok(any());
    }
    text.split(',').map(|text| part(text, field)).collect::<Result<_, _>>().map(Component::new)
}

fn part(text: &str, field: Field) -> Result<Part, Wrong> {
    let Field { name, min, .. } = field;
    let (range, every) = match text.split_once('/') {
        Some((range, every)) => (range, Some(every)),
        None => (text, None),
    };
    if range == "*" {
        let hint =
            every.map_or("it stands alone: every value".to_owned(), |every| format!("write {min}/{every}"));
        return wrong(format!("`{text}`: `*` goes with nothing else"), hint);
    }
    let every = match every.map(str::parse::<u16>) {
        Some(Ok(every)) if every > 0 => Some(every),
        Some(_) => {
            return wrong(format!("`{text}`: what follows / is a number from 1"), format!("as {min}/2"));
        }
        None => None,
    };
    let (first, last) = match range.split_once("..") {
        Some((first, last)) => (number(first, field)?, Some(number(last, field)?)),
        None => (number(range, field)?, None),
    };
    if last.is_some_and(|last| last < first) {
        return wrong(
            format!("the {name} `{range}` goes backwards"),
            "write the two ranges that it is made of",
        );
    }
    Ok(Part::new(first, last, every))
}

fn number(text: &str, field: Field) -> Result<u16, Wrong> {
    let Field { name, min, max } = field;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if name == SECOND.name && text.contains('.') {
        return wrong(format!("`{text}`: seconds are whole here"), "leave out what follows the point");
    }
    let value = text.parse::<u16>().ok().filter(|_| digits).map(|value| match value {
        // As systemd reads years of two digits.
        0..70 if name == YEAR.name && text.len() <= 2 => value + 2000,
        70..100 if name == YEAR.name && text.len() <= 2 => value + 1900,
        _ => value,
    });
    match value {
        Some(value) if (min..=max).contains(&value) => Ok(value),
        _ => wrong(
            format!("`{text}` is no {name}"),
            format!("{min} to {max}, `*` for each, 1,2 for some, 1..5 for a range"),
        ),
    }
}

/// The normal form.
impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weekdays != 0 {
            show_weekdays(self.weekdays, f)?;
            f.write_str(" ")?;
        }
        self.year.show(f, 4)?;
        f.write_str("-")?;
        self.month.show(f, 2)?;
        f.write_str(if self.from_end { "~" } else { "-" })?;
        self.day.show(f, 2)?;
        f.write_str(" ")?;
        self.hour.show(f, 2)?;
        f.write_str(":")?;
        self.minute.show(f, 2)?;
        f.write_str(":")?;
        self.second.show(f, 2)?;
        match &self.zone {
            Some(zone) => write!(f, " {zone}"),
            None => Ok(()),
        }
    }
}

/// Three days or more in a row are a range.
fn show_weekdays(bits: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let has = |day: usize| bits & (1 << day) != 0;
    let (mut day, mut comma) = (0, "");
    while day < 7 {
        if !has(day) {
            day += 1;
            continue;
        }
        let last = (day..7).take_while(|day| has(*day)).last().unwrap_or(day);
        match last - day {
            0 => write!(f, "{comma}{}", short_day(day))?,
            1 => write!(f, "{comma}{},{}", short_day(day), short_day(last))?,
            _ => write!(f, "{comma}{}..{}", short_day(day), short_day(last))?,
        }
        (day, comma) = (last + 1, ",");
    }
    Ok(())
}
