//! What is no calendar, and what is said of it.

use sampan_calendar::Calendar;

#[test]
fn each_mistake_says_what_to_write() {
    for (text, said) in [
        ("", "no time at all: as \"daily\", \"Mon..Fri 03:00\" or \"*-*-01 12:30\""),
        ("UTC", "no time at all: as \"daily\", \"Mon..Fri 03:00\" or \"*-*-01 12:30\""),
        ("*-02-30", "*-02-30 00:00:00 never comes: no day of any year fits it"),
        (
            "Wed..Sat,Tue 12-10-15 1:2:3",
            "Tue..Sat 2012-10-15 01:02:03 never comes: no day of any year fits it",
        ),
        ("Mon 2026-01-01", "Mon 2026-01-01 00:00:00 never comes: no day of any year fits it"),
        ("*-*~32", "`32` is no day: 1 to 31, `*` for each, 1,2 for some, 1..5 for a range"),
        ("25:00", "`25` is no hour: 0 to 23, `*` for each, 1,2 for some, 1..5 for a range"),
        ("3:00:60", "`60` is no second: 0 to 59, `*` for each, 1,2 for some, 1..5 for a range"),
        ("3:00:00.5", "`00.5`: seconds are whole here: leave out what follows the point"),
        ("-1:00", "`-1` is no hour: 0 to 23, `*` for each, 1,2 for some, 1..5 for a range"),
        ("99999999999:00", "`99999999999` is no hour: 0 to 23, `*` for each, 1,2 for some, 1..5 for a range"),
        ("*:*/5", "`*/5`: `*` goes with nothing else: write 0/5"),
        ("*,5:00", "`*`: `*` goes with nothing else: it stands alone: every value"),
        ("*:0/0", "`0/0`: what follows / is a number from 1: as 0/2"),
        ("17..9:00", "the hour `17..9` goes backwards: write the two ranges that it is made of"),
        ("Sat..Mon", "`Sat..Mon` goes backwards: a week begins on Monday: Sat..Sun,Mon..Mon"),
        (
            "Mno 03:00",
            "`Mno` is no weekday: Mon, Tue, Wed, Thu, Fri, Sat, Sun; or daily, hourly and the like, alone",
        ),
        ("3", "`3` is neither a date nor a time: as 2027-12-31, *-*-01 or 03:00"),
        ("1:2:3:4", "`1:2:3:4` is no time: as 03:00, *:0/15 or 12:30:15"),
        (
            "2027-01-01-01",
            "`2027-01-01-01` has more than year, month and day: as 2027-12-31; a range is written 1..5",
        ),
        ("0 3 * * *", "cron's form: as \"03:00\", \"Mon..Fri *:0/15\" or \"*-*-01 12:30\""),
        ("*-*-* 3:00 4:00", "`4:00` is too much: a calendar is [WEEKDAYS] [DATE] [TIME] [ZONE]"),
        ("@1395716396", "`@1395716396` is neither a date nor a time: as 2027-12-31, *-*-01 or 03:00"),
    ] {
        let found = Calendar::parse(text).map(|calendar| calendar.to_string());
        assert_eq!(found.map_err(|wrong| wrong.to_string()), Err(said.to_owned()), "{text:?}");
    }
    assert!(Calendar::parse(&"1,".repeat(10_000)).unwrap_err().to_string().contains("not that long"));
}
