//! What living services use, and their processes: read from the kernel when a client asks. The loop says who lives ([`Lives`]) and goes
//! on; the files are read by the thread that answers.
use sampan_api as api;
use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies, Psi, Stats};
use sampan_runtime::kernel::pidfd;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A service with more is shown with so many.
const PROCESSES_MAX: usize = 16_384;
/// Of one command line.
const COMMAND_CHARS_MAX: usize = 4096;
/// The kernel counts CPU time of a process in hundredths of a second on every architecture (USER_HZ).
const MS_PER_TICK: u64 = 10;

#[derive(Debug)]
pub struct Lives {
    pub hierarchies: &'static Hierarchies,
    pub all: Vec<Life>,
}

#[derive(Debug)]
pub struct Life {
    pub service: Arc<str>,
    pub cgroup: String,
    pub pidfd: Arc<OwnedFd>,
    /// It has a network namespace of its own.
    pub has_network: bool,
}

impl Life {
    fn group<'h>(&self, hierarchies: &'h Hierarchies) -> Option<Cgroup<'h>> {
        Cgroup::at(hierarchies, &CgroupsPath::Absolute(self.cgroup.clone())).ok()
    }
}

/// Of each, unless it has ended since the loop was asked.
pub fn usage(lives: &Lives) -> Vec<api::Usage> {
    let of = |life: &Life| {
        let at_ms = crate::clock::boottime().0;
        let stats = life.group(lives.hierarchies)?.stats().ok()?;
        let network = if life.has_network { traffic(life) } else { None };
        Some(counted(&life.service, at_ms, &stats, network))
    };
    lives.all.iter().filter_map(of).collect()
}

fn counted(service: &str, at_ms: u64, stats: &Stats, network: Option<api::Traffic>) -> api::Usage {
    let io = |op: &str| {
        let entries = stats.blkio.io_service_bytes_recursive.iter();
        entries.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
    };
    // v1 says that there is no limit by a number that no machine has.
    let memory_limit = stats.memory.usage.limit;
    let waits = |psi: Option<Psi>| psi.map(|psi| psi.some.avg10);
    let pressure = [stats.cpu.psi, stats.memory.psi, stats.blkio.psi].map(waits);
    api::Usage {
        service: service.to_owned(),
        at_ms,
        cpu_ns: stats.cpu.usage.total,
        memory_bytes: stats.memory.usage.usage,
        memory_limit_bytes: (1..1 << 62).contains(&memory_limit).then_some(memory_limit),
        processes: stats.pids.current,
        processes_limit: (1..1 << 62).contains(&stats.pids.limit).then_some(stats.pids.limit),
        io_read_bytes: io("read"),
        io_written_bytes: io("write"),
        network,
        pressure: match pressure {
            [None, None, None] => None,
            [cpu, memory, io] => Some(api::Waits {
                cpu: cpu.unwrap_or_default(),
                memory: memory.unwrap_or_default(),
                io: io.unwrap_or_default(),
            }),
        },
    }
}

fn traffic(life: &Life) -> Option<api::Traffic> {
    let table = pidfd::read(life.pidfd.as_fd(), "net/dev").ok()?;
    Some(counted_on_interfaces(&String::from_utf8_lossy(&table)))
}

/// `/proc/PID/net/dev`: two lines of heading, then `eth0: BYTES_IN` with seven more of what came in, `BYTES_OUT` and so on.
fn counted_on_interfaces(table: &str) -> api::Traffic {
    let mut sum = api::Traffic::default();
    for line in table.lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        if name.trim() != "lo"
            && let (Some(received), Some(sent)) = (numbers.first(), numbers.get(8))
        {
            sum.received_bytes += received;
            sum.sent_bytes += sent;
        }
    }
    sum
}

/// Of those that have a network namespace of their own.
pub fn addresses(lives: &Lives) -> Vec<IpAddr> {
    let of = |life: &Life| {
        let read = |name| pidfd::read(life.pidfd.as_fd(), name).unwrap_or_default();
        let (v4, v6) = (read("net/fib_trie"), read("net/if_inet6"));
        own_addresses(&String::from_utf8_lossy(&v4), &String::from_utf8_lossy(&v6))
    };
    lives.all.iter().filter(|life| life.has_network).flat_map(of).collect()
}

/// `/proc/PID/net/fib_trie` has `|-- ADDRESS` before `/32 host LOCAL`, in each table once; `if_inet6` an address in hex on each line.
fn own_addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut all = Vec::new();
    let mut last = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address| !address.is_loopback())
            && !all.contains(&IpAddr::V4(address))
        {
            all.push(IpAddr::V4(address));
        }
    }
    let v6 =
        if_inet6.lines().filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok());
    let v6 = v6.map(Ipv6Addr::from).filter(|a| !a.is_loopback() && !a.is_unicast_link_local());
    all.extend(v6.map(IpAddr::V6));
    all
}

/// In the order of their numbers.
pub fn processes(lives: &Lives) -> Vec<api::Process> {
    let groups = lives.all.iter().filter_map(|life| life.group(lives.hierarchies));
    groups.flat_map(|group| group.members()).take(PROCESSES_MAX).filter_map(process).collect()
}

/// None: it has ended.
fn process(pid: i32) -> Option<api::Process> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}"));
    let stat = read("stat").ok()?;
    let owner = read("status").ok()?;
    let arguments = read("cmdline").unwrap_or_default();
    told(pid, &String::from_utf8_lossy(&stat), &String::from_utf8_lossy(&owner), &arguments)
}

/// From proc(5)'s stat, status and cmdline.
fn told(pid: i32, stat: &str, status: &str, arguments: &[u8]) -> Option<api::Process> {
    // The name may have any bytes in it; what follows has no parenthesis.
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split(' ').collect();
    let number = |field: usize| fields.get(field).and_then(|text| text.trim().parse::<u64>().ok());
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // Absent: a zombie, which has no memory.
    let rss_kib = line("VmRSS:").and_then(|text| text.split_whitespace().next()).unwrap_or("0");
    let uid = line("Uid:")?.split_whitespace().nth(1)?;
    let arguments = String::from_utf8_lossy(arguments);
    let command = arguments.trim_end_matches('\0').replace('\0', " ");
    let command: String = command.chars().take(COMMAND_CHARS_MAX).collect();
    Some(api::Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        uid: uid.parse().ok()?,
        state: fields.first()?.chars().next()?,
        cpu_ms: (number(11)? + number(12)?) * MS_PER_TICK,
        rss_bytes: rss_kib.parse::<u64>().ok()?.saturating_mul(1024),
        command: if command.is_empty() { format!("[{name}]") } else { command },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_whatever_its_name() {
        let stat = "7 (a) R 1 (b) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 99 4096000 25 18446744073709551615 1 1";
        let status = "Name:\tx\nUid:\t0\t1000\t0\t0\nVmRSS:\t     100 kB\nGid:\t0\t0\t0\t0\n";
        let process = told(7, stat, status, b"sh\0-c\0sleep 1\0").unwrap();
        assert_eq!((process.parent, process.uid, process.state), (3, 1000, 'S'));
        assert_eq!((process.cpu_ms, process.rss_bytes), (2000, 100 * 1024));
        assert_eq!(process.command, "sh -c sleep 1");
        assert_eq!(told(7, stat, status, b"").unwrap().command, "[a) R 1 (b]");
        for cut in 0..stat.len() - 30 {
            let _ = told(7, &stat[..cut], status, b"");
        }
    }

    #[test]
    fn addresses_are_its_own() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.144.0.0\n        /20 link UNICAST\n     |-- 10.144.0.2\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\nLocal:\n     |-- 10.144.0.2\n        /32 host LOCAL\n";
        let v6 = "fe800000000000000000000000000001 04 40 20 80 eth0\nfd000000000000000000000000000002 04 40 00 82 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n";
        let all: Vec<String> = own_addresses(trie, v6).iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.144.0.2", "fd00::2"]);
        assert!(own_addresses("|-- x\n/32 host LOCAL\n", "zz\n\n").is_empty());
    }

    #[test]
    fn traffic_is_that_of_all_interfaces_but_loopback() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth1:5 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0\n";
        let sum = counted_on_interfaces(table);
        assert_eq!((sum.received_bytes, sum.sent_bytes), (105, 23));
    }
}
