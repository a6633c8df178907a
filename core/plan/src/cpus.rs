//! Lists of CPUs as cpuset(7) writes them, `0-3,7`, in the process's own fields.

use crate::error::Error;

/// The numbers that a mask of the kernel's default size has room for (CPU_SETSIZE).
pub const CPUS_MAX: u32 = 1024;

/// The CPUs of a list, each once; none: the list is empty.
pub fn parse(list: &str, field: &str) -> Result<Vec<u32>, Error> {
    let mut cpus = Vec::new();
    for range in list.split(',').map(str::trim).filter(|_| !list.trim().is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u32>().ok().filter(|cpu| *cpu < CPUS_MAX);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
            _ => {
                let problem =
                    format!("{range:?} is no CPU and no range of CPUs such as 0-3, below {CPUS_MAX}");
                return Err(Error::new(field, problem));
            }
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// The words of the kernel's mask.
pub fn mask(cpus: &[u32]) -> Vec<u32> {
    let mut words = vec![0; (CPUS_MAX / 32) as usize];
    for cpu in cpus {
        if let Some(word) = words.get_mut((cpu / 32) as usize) {
            *word |= 1 << (cpu % 32);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{mask, parse};

    #[test]
    fn a_list_is_numbers_and_ranges() {
        for (list, cpus) in [
            ("", Some(vec![])),
            ("0", Some(vec![0])),
            ("0-3,7", Some(vec![0, 1, 2, 3, 7])),
            ("7, 1-2,2", Some(vec![1, 2, 7])),
            ("1023", Some(vec![1023])),
            ("1024", None),
            ("3-1", None),
            ("1,", None),
            ("-1", None),
            ("a", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(parse(list, "f").ok(), cpus, "{list:?}");
        }
    }

    #[test]
    fn a_mask_has_a_bit_for_each() {
        let words = mask(&[0, 33, 1023]);
        assert_eq!((words[0], words[1], words[31]), (1, 2, 1 << 31));
        assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 3);
    }
}
