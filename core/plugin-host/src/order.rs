//! In which order plugins are asked: by what their manifests and config.toml say, ties by their place in the config.
//!
//! Up (`create`, `attach`, ...) is this order, down (`exit`, `detach`, ...) its reverse. There are no numeric priorities.
//! `after` and `before` a plugin that is not there mean nothing; `requires` and `conflicts` refuse the plugin that says so.

/// One plugin's wishes, by its name.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub name: String,
    pub after: Vec<String>,
    pub before: Vec<String>,
    pub requires: Vec<String>,
    pub conflicts: Vec<String>,
}

/// The order, as indices of the input, and who is left out, with the reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub up: Vec<usize>,
    pub refused: Vec<(usize, String)>,
}

pub fn order(wishes: &[Wish]) -> Order {
    let mut refused: Vec<(usize, String)> = Vec::new();
    refuse_conflicting(wishes, &mut refused);
    refuse_lacking(wishes, &mut refused);
    let mut up = Vec::new();
    let mut waiting: Vec<usize> = (0..wishes.len()).filter(|n| !is_refused(&refused, *n)).collect();
    while !waiting.is_empty() {
        // The first in config order for whom nobody is still to come.
        let free = waiting.iter().position(|n| !waiting.iter().any(|other| goes_first(wishes, *other, *n)));
        match free {
            Some(at) => up.push(waiting.remove(at)),
            None => {
                let path = cycle(wishes, &waiting);
                let text: Vec<&str> = path.iter().map(|n| name(wishes, *n)).collect();
                let text = format!("its place is not defined: {} (each after the next)", text.join(" -> "));
                refused.extend(path.iter().skip(1).map(|n| (*n, text.clone())));
                waiting.retain(|n| !path.contains(n));
                // Whoever required one of them goes too.
                up.clear();
                refuse_lacking(wishes, &mut refused);
                waiting = (0..wishes.len()).filter(|n| !is_refused(&refused, *n)).collect();
            }
        }
    }
    refused.sort();
    Order { up, refused }
}

/// Whether `first` must come before `then`.
fn goes_first(wishes: &[Wish], first: usize, then: usize) -> bool {
    let (Some(a), Some(b)) = (wishes.get(first), wishes.get(then)) else { return false };
    b.after.contains(&a.name) || b.requires.contains(&a.name) || a.before.contains(&b.name)
}

fn refuse_conflicting(wishes: &[Wish], refused: &mut Vec<(usize, String)>) {
    for (n, wish) in wishes.iter().enumerate() {
        let earlier = wishes.iter().take(n).enumerate().find(|(m, other)| {
            !is_refused(refused, *m)
                && (wish.conflicts.contains(&other.name) || other.conflicts.contains(&wish.name))
        });
        if let Some((_, other)) = earlier {
            refused.push((n, format!("it conflicts with plugin {}, which comes before it", other.name)));
        }
    }
}

fn refuse_lacking(wishes: &[Wish], refused: &mut Vec<(usize, String)>) {
    loop {
        let next =
            wishes.iter().enumerate().filter(|(n, _)| !is_refused(refused, *n)).find_map(|(n, wish)| {
                let lacks = wish.requires.iter().find(|needed| {
                    !wishes
                        .iter()
                        .enumerate()
                        .any(|(m, other)| other.name == **needed && !is_refused(refused, m))
                })?;
                Some((n, format!("it requires plugin {lacks}, which is not loaded")))
            });
        match next {
            Some(one) => refused.push(one),
            None => return,
        }
    }
}

fn is_refused(refused: &[(usize, String)], n: usize) -> bool {
    refused.iter().any(|(m, _)| *m == n)
}

fn name(wishes: &[Wish], n: usize) -> &str {
    wishes.get(n).map_or("", |wish| wish.name.as_str())
}

/// From any of those that wait for each other, back to itself: first and last are the same.
fn cycle(wishes: &[Wish], waiting: &[usize]) -> Vec<usize> {
    let mut path: Vec<usize> = waiting.first().copied().into_iter().collect();
    while let Some(last) = path.last().copied() {
        let Some(next) = waiting.iter().copied().find(|other| goes_first(wishes, *other, last)) else {
            break;
        };
        if let Some(at) = path.iter().position(|n| *n == next) {
            path.drain(..at);
            path.push(next);
            return path;
        }
        path.push(next);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `a after b,c; b requires d` -> `up; refused`.
    fn check(config: &str, expected: &str) {
        let wishes: Vec<Wish> = config
            .split(';')
            .map(|line| {
                let mut words = line.split_ascii_whitespace();
                let mut wish = Wish { name: words.next().unwrap().to_owned(), ..Wish::default() };
                while let (Some(key), Some(names)) = (words.next(), words.next()) {
                    let names = names.split(',').map(str::to_owned).collect();
                    match key {
                        "after" => wish.after = names,
                        "before" => wish.before = names,
                        "requires" => wish.requires = names,
                        "conflicts" => wish.conflicts = names,
                        _ => panic!("{key}"),
                    }
                }
                wish
            })
            .collect();
        let order = order(&wishes);
        let up: Vec<_> = order.up.iter().map(|n| wishes[*n].name.as_str()).collect();
        let refused: Vec<_> =
            order.refused.iter().map(|(n, why)| format!("; {}: {why}", wishes[*n].name)).collect();
        assert_eq!(format!("{}{}", up.join(" "), refused.concat()), expected);
    }

    #[test]
    fn ties_keep_the_order_of_the_config() {
        check("c; a; b", "c a b");
    }
    #[test]
    fn a_after_b_and_c_ties() {
        check("a after b; b; c", "b a c");
    }
    #[test]
    fn before_is_after_from_the_other_side() {
        check("a; b before a", "b a");
    }
    #[test]
    fn a_name_that_is_not_there_means_nothing_unless_required() {
        check("a after x before y; b", "a b");
        check(
            "a requires x; b requires a; c",
            "c; a: it requires plugin x, which is not loaded; b: it requires plugin a, which is not loaded",
        );
    }
    #[test]
    fn the_later_of_two_that_conflict_is_refused() {
        check("a; b conflicts a", "a; b: it conflicts with plugin a, which comes before it");
        check("a conflicts b; b", "a; b: it conflicts with plugin a, which comes before it");
    }
    #[test]
    fn a_cycle_is_printed_and_the_others_go_on() {
        check(
            "a after b; b after c; c after a; d",
            "d; a: its place is not defined: a -> b -> c -> a (each after the next); b: its place is not defined: a -> b -> c -> a (each after the next); c: its place is not defined: a -> b -> c -> a (each after the next)",
        );
    }

    proptest! {
        #[test]
        fn everybody_is_placed_or_refused_and_every_kept_wish_holds(
            after in proptest::collection::vec(proptest::collection::vec(0usize..6, 0..3), 6)
        ) {
            let wishes: Vec<Wish> = after.iter().enumerate().map(|(n, after)| Wish {
                name: n.to_string(),
                after: after.iter().filter(|m| **m != n).map(usize::to_string).collect(),
                ..Wish::default()
            }).collect();
            let order = order(&wishes);
            prop_assert_eq!(order.up.len() + order.refused.len(), 6);
            for (at, n) in order.up.iter().enumerate() {
                for later in &order.up[at..] {
                    prop_assert!(!goes_first(&wishes, *later, *n));
                }
            }
        }
    }
}
