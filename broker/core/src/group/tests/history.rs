//! Why classic groups rebalance: what happened, and what is kept of it.

use esker_protocol::primitives::Str;

use super::*;
use crate::group::{Cause, GroupEvent, Kind, Leaving, MemberInfo, Reason, Rebalance};

/// What is kept, a line a rebalance.
fn kept(s: &Script) -> Vec<String> {
    let line = |r: &Rebalance| {
        let causes: Vec<String> = r
            .causes
            .iter()
            .map(|(_, cause)| {
                let who = cause.member.as_ref().map(|who| format!(" {}", who.member_id)).unwrap_or_default();
                format!("{}{who}", cause.reason.name())
            })
            .collect();
        format!("{} to {}: {}", r.from, r.to, causes.join(", "))
    };
    s.shard.rebalances("g").unwrap().iter().map(line).collect()
}

type Happens = fn(&mut Script, &str, &str);

#[test]
fn what_happens_to_a_stable_group_is_told() {
    let cases: [(&str, Happens, &str); 8] = [
        ("a third joins", |s, _, _| _ = s.join(""), "1 to 2: member-joined c-"),
        ("one leaves", |s, _, b| leave(s, b, None), "1 to 2: member-left B"),
        (
            "an administrator takes it out",
            |s, _, b| leave(s, b, Some("member was removed by an admin: it is old")),
            "1 to 2: admin-removed B",
        ),
        ("one is silent", |s, a, _| beat(s, a, u32::MAX), "1 to 2: session-timeout B"),
        ("the leader joins again", |s, a, _| _ = s.join(a), "1 to 2: leader-rejoined A"),
        ("another says something else", |s, _, b| says(s, b, "range", b"other"), "1 to 2: subscription-changed B"),
        ("another offers something else", |s, _, b| says(s, b, "also", b"m"), "1 to 2: assignor-changed B"),
        (
            "it does not come back when called",
            |s, a, _| {
                s.join(a);
                // Both live all the while; one does not join.
                beat(s, "", 12);
            },
            "1 to 2: leader-rejoined A, rebalance-timeout B",
        ),
    ];
    for (what, happens, expected) in cases {
        let (mut s, a, b) = Script::stable_pair();
        // The leader is the first in order; the case is about the two by name.
        assert_eq!(kept(&s).len(), 1, "{what}");
        happens(&mut s, &a, &b);
        let expected = expected.replace('A', &a).replace('B', &b);
        let last = kept(&s).pop().unwrap();
        assert!(last.starts_with(&expected), "{what}: {last}, and not {expected}");
    }
}

fn leave(s: &mut Script, member: &str, said: Option<&str>) {
    let leaving = Leaving { member_id: Str::copy(member), instance_id: None, client_reason: said.map(Str::copy) };
    let (_, effects) = s.shard.leave_with_reasons(&"g".into(), &[leaving], s.now);
    s.take(effects);
}

fn says(s: &mut Script, member: &str, also: &str, metadata: &'static [u8]) {
    let mut request = s.request(member);
    let range = Protocol { name: "range".into(), metadata: Bytes::from_static(metadata) };
    request.protocols = vec![range];
    if also != "range" {
        request.protocols.push(Protocol { name: Str::copy(also), metadata: Bytes::new() });
    }
    s.join_with(request);
}

/// Sends one member's heartbeats until the other's session has ended; without a member, the heartbeats of all, so many times.
fn beat(s: &mut Script, member: &str, times: u32) {
    let ids: Vec<String> = s.shard.groups["g"].members().map(|m| m.id.to_string()).collect();
    for _ in 0..times.min(12) {
        for id in ids.iter().filter(|id| member.is_empty() || **id == *member) {
            s.heartbeat(id, 1);
        }
        s.pass(5000);
    }
}

#[test]
fn who_comes_to_a_rebalance_is_kept_with_it() {
    let (s, a, b) = Script::stable_pair();
    assert_eq!(kept(&s), [format!("0 to 1: member-joined {a}, member-joined {b}")]);
    let kept = s.shard.rebalances("g").unwrap();
    let who = kept[0].causes[0].1.member.clone().unwrap();
    assert_eq!((&*who.client_id, &*who.client_host, who.instance_id), ("c", "/h", None));
}

#[test]
fn those_that_rejoin_because_they_are_called_are_no_cause() {
    let (mut s, a, b) = Script::stable_pair();
    s.join("");
    for member in [&a, &b] {
        says(&mut s, member, "range", b"gave something back");
    }
    assert_eq!(s.shard.groups["g"].generation(), 2);
    let last = kept(&s).pop().unwrap();
    assert!(last.starts_with("1 to 2: member-joined c-") && !last.contains(','), "{last}");
}

fn tell(shard: &mut GroupShard, event: GroupEvent) {
    let mut effects = Effects { events: vec![event], ..Effects::default() };
    shard.apply(Applied::all(&mut effects));
}

#[test]
fn what_is_kept_has_bounds() {
    let mut shard = GroupShard::new(limits()).with_history(3);
    let long = Str::from("\u{e9}".repeat(20_000));
    for generation in 0..10 {
        for at in 0..100 {
            let who =
                MemberInfo { member_id: "m".into(), instance_id: None, client_id: "c".into(), client_host: "h".into() };
            let cause = Cause::of_member(Reason::MemberLeft, who).with_client_reason(Some(&long));
            tell(
                &mut shard,
                GroupEvent {
                    group: "g".into(),
                    kind: Kind::Classic,
                    from: generation,
                    to: generation + 1,
                    at,
                    begins: at == 0,
                    cause,
                },
            );
        }
    }
    let kept = shard.rebalances("g").unwrap();
    assert_eq!(kept.iter().map(|r| r.to).collect::<Vec<_>>(), [8, 9, 10]);
    assert!(kept.iter().all(|r| (r.causes.len(), r.more) == (16, 84)));
    assert!(kept[0].causes[0].1.client_reason.as_ref().unwrap().len() <= 256);
    let mut none = GroupShard::new(limits()).with_history(0);
    tell(
        &mut none,
        GroupEvent {
            group: "g".into(),
            kind: Kind::Classic,
            from: 0,
            to: 1,
            at: 0,
            begins: true,
            cause: Cause::new(Reason::MemberLeft),
        },
    );
    assert_eq!(none.rebalances("g"), None);
}
