//! The witness's script, and the parser of its output.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};

use super::{ExitStatus, Fact, TRACEFS};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Ready(i64),
    Record(i64, Fact),
    Other,
}

/// The script, for the fields that this kernel's tracepoints have.
pub(super) fn program() -> Result<String> {
    let format = |event: &str| {
        let path = Path::new(TRACEFS).join("events").join(event).join("format");
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    // `group_dead` came with 6.16; before, the count of living threads is already down when the tracepoint fires.
    let last_thread = if format("sched/sched_process_exit")?.contains("group_dead") {
        "args->group_dead"
    } else {
        "curtask->signal->live.counter == 0"
    };
    // 28-byte sockaddrs since 6.12, ports and addresses of their own before.
    let reset_sent = if format("tcp/tcp_send_reset")?.contains("saddr[28]") {
        r#"printf("sent_raw %llu %rh|%rh\n", nsecs, buf(args->saddr, 28), buf(args->daddr, 28));"#
    } else {
        r#"printf("sent %llu %s %d %s %d\n", nsecs, ntop(args->saddr_v6), args->sport, ntop(args->daddr_v6), args->dport);"#
    };
    let filtered = dropped_by_netfilter(&format("skb/kfree_skb")?)?;
    Ok(format!(
        r#"
BEGIN {{ printf("ready %llu\n", nsecs); }}
tracepoint:sched:sched_process_exit /{last_thread}/ {{
    printf("exit %llu %d %d %s\n", nsecs, pid, curtask->exit_code, curtask->group_leader->comm);
}}
tracepoint:sock:inet_sock_set_state /args->protocol == 6/ {{
    printf("state %llu %d %d %s %d %s %d\n", nsecs, args->oldstate, args->newstate,
        ntop(args->saddr_v6), args->sport, ntop(args->daddr_v6), args->dport);
}}
tracepoint:tcp:tcp_send_reset {{ {reset_sent} }}
tracepoint:tcp:tcp_receive_reset {{
    printf("received %llu %s %d %s %d\n", nsecs, ntop(args->saddr_v6), args->sport, ntop(args->daddr_v6), args->dport);
}}
tracepoint:signal:signal_generate /args->sig != 17 && args->sig != 13 && args->sig != 14/ {{
    printf("signal %llu %d %d %d %d %s\n", nsecs, args->sig, args->pid, args->result, pid, comm);
}}
tracepoint:oom:mark_victim {{ printf("oom %llu %d\n", nsecs, args->pid); }}
tracepoint:skb:kfree_skb /args->reason == {filtered}/ {{
    $skb = (struct sk_buff *)args->skbaddr;
    $ip = (struct iphdr *)($skb->head + $skb->network_header);
    if ($ip->version == 4 && $ip->protocol == 6) {{
        $tcp = (struct tcphdr *)($skb->head + $skb->network_header + $ip->ihl * 4);
        printf("filtered %llu %s %d %s %d\n", nsecs, ntop($ip->saddr), $tcp->source, ntop($ip->daddr), $tcp->dest);
    }}
}}
"#
    ))
}

/// The running kernel's number of the reason, from the tracepoint's own list of names.
fn dropped_by_netfilter(format: &str) -> Result<u32> {
    let (_, list) = format
        .split_once("NETFILTER_DROP")
        .map(|(before, _)| before)
        .and_then(|before| before.rsplit_once('{'))
        .context("this kernel's kfree_skb does not name the reason NETFILTER_DROP")?;
    let number = list.trim().trim_end_matches(['"', ' ', ',']).trim();
    number.parse().with_context(|| format!("a number of a drop reason: {number:?}"))
}

pub(super) fn parse(line: &str) -> Result<Line> {
    let mut words = line.splitn(2, ' ');
    let kind = words.next().unwrap_or_default();
    let rest = words.next().unwrap_or_default();
    let mut rest = rest.splitn(2, ' ');
    let at = rest.next().unwrap_or_default();
    let rest = rest.next().unwrap_or_default();
    let fact = match kind {
        "ready" => return Ok(Line::Ready(at.parse()?)),
        "exit" => {
            let [pid, code, comm] = split(rest)?;
            Fact::Exit { pid: pid.parse()?, status: exit_status(code.parse()?), comm: comm.to_owned() }
        }
        "state" => {
            let [old, new, local, local_port, remote, remote_port] = split(rest)?;
            Fact::State {
                old: old.parse()?,
                new: new.parse()?,
                local: address(local, local_port)?,
                remote: address(remote, remote_port)?,
            }
        }
        "sent" => {
            let [from, from_port, to, to_port] = split(rest)?;
            Fact::ResetSent { from: address(from, from_port)?, to: address(to, to_port)? }
        }
        "sent_raw" => {
            let (from, to) = rest.split_once('|').context("two addresses")?;
            Fact::ResetSent { from: sockaddr(from)?, to: sockaddr(to)? }
        }
        "received" => {
            let [local, local_port, remote, remote_port] = split(rest)?;
            Fact::ResetReceived { local: address(local, local_port)?, remote: address(remote, remote_port)? }
        }
        "signal" => {
            let [signal, target, result, sender, comm] = split(rest)?;
            Fact::Signal {
                signal: signal.parse()?,
                target: target.parse()?,
                // TRACE_SIGNAL_DELIVERED is 0 (include/trace/events/signal.h).
                ignored: result != "0",
                sender: sender.parse()?,
                comm: comm.to_owned(),
            }
        }
        "filtered" => {
            let [from, from_port, to, to_port] = split(rest)?;
            let wire = |ip: &str, port: &str| {
                Ok::<_, anyhow::Error>(SocketAddr::new(ip.parse()?, port.parse::<u16>()?.swap_bytes()))
            };
            Fact::Filtered { from: wire(from, from_port)?, to: wire(to, to_port)? }
        }
        "oom" => Fact::OomVictim { pid: rest.trim().parse()? },
        _ => return Ok(Line::Other),
    };
    Ok(Line::Record(at.parse()?, fact))
}

/// `N` words; the last one is the rest of the line, since a comm may hold spaces.
fn split<const N: usize>(text: &str) -> Result<[&str; N]> {
    text.splitn(N, ' ').collect::<Vec<_>>().try_into().ok().with_context(|| format!("{N} words expected: {text}"))
}

fn address(ip: &str, port: &str) -> Result<SocketAddr> {
    Ok(SocketAddr::new(ip.parse::<IpAddr>()?.to_canonical(), port.parse()?))
}

/// A `sockaddr_in` or `sockaddr_in6` in hexadecimal bytes, as bpftrace prints a buffer.
fn sockaddr(hex: &str) -> Result<SocketAddr> {
    let bytes =
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16)).collect::<std::result::Result<Vec<_>, _>>()?;
    let bytes: [u8; 28] = bytes.try_into().ok().context("28 bytes expected")?;
    let [family, _, port_high, port_low, v4 @ .., _, _, _, _] = bytes;
    let port = u16::from_be_bytes([port_high, port_low]);
    // The family is in host order; both numbers fit its first byte on a little-endian machine, its second on the other.
    let ip = if family == 2 {
        let [a, b, c, d, ..] = v4;
        IpAddr::from([a, b, c, d])
    } else {
        let [_, _, _, _, v6 @ ..] = v4;
        IpAddr::from(Ipv6Addr::from(v6)).to_canonical()
    };
    Ok(SocketAddr::new(ip, port))
}

/// From the kernel's `exit_code`: the signal in the low seven bits, else the code in bits 8 to 15.
fn exit_status(raw: i32) -> ExitStatus {
    match u32::try_from(raw & 0x7f) {
        Ok(signal) if signal != 0 => ExitStatus::Signal(signal),
        _ => ExitStatus::Code((raw >> 8) & 0xff),
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, parse};
    use crate::witness::{ExitStatus, Fact};

    #[test]
    fn distinguishes_an_exit_by_signal_from_one_with_a_code() {
        let exit = |status| Fact::Exit { pid: 7, status, comm: "Web Content 1".to_owned() };
        assert_eq!(parse("exit 5 7 9 Web Content 1").unwrap(), Line::Record(5, exit(ExitStatus::Signal(9))));
        assert_eq!(parse("exit 5 7 139 Web Content 1").unwrap(), Line::Record(5, exit(ExitStatus::Signal(11))));
        assert_eq!(parse("exit 5 7 768 Web Content 1").unwrap(), Line::Record(5, exit(ExitStatus::Code(3))));
    }

    #[test]
    fn reads_a_mapped_address_as_ipv4_in_both_layouts() {
        let wanted = |line: &str, want_from: &str, want_to: &str| match parse(line).unwrap() {
            Line::Record(_, Fact::ResetSent { from, to }) => {
                assert_eq!((from.to_string().as_str(), to.to_string().as_str()), (want_from, want_to));
            }
            other => panic!("{other:?}"),
        };
        wanted("sent 1 ::ffff:10.0.0.1 80 ::ffff:10.0.0.2 4000", "10.0.0.1:80", "10.0.0.2:4000");
        wanted(
            "sent_raw 1 02 00 47 37 7f 00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00|\
             0a 00 c2 86 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ff ff 7f 00 00 02 00 00 00 00",
            "127.0.0.1:18231",
            "127.0.0.2:49798",
        );
    }

    #[test]
    fn rejects_lines_that_the_script_did_not_print() {
        assert_eq!(parse("Attaching 7 probes...").unwrap(), Line::Other);
        assert!(parse("exit 5 seven 9 x").is_err());
    }
}
