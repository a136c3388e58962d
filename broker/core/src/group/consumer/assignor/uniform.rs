//! `uniform` for members that subscribe to the same topics: all members get the same number of partitions, plus or minus one, and keep
//! as many of their own as that allows. No assignment moves fewer.

use super::spec::{Owners, Spec};
use crate::group::consumer::member::Partitions;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Partitions> {
    let mut owners = spec.owners();
    let mut quotas = quotas(spec, &owners);
    // Each member keeps partitions up to its quota; the quotas become the numbers still missing.
    for owner in owners.0.iter_mut().flatten() {
        let quota = owner.and_then(|member| quotas.get_mut(member as usize));
        match quota {
            Some(0) | None => *owner = None,
            Some(quota) => *quota -= 1,
        }
    }
    let mut hungry = (0u32..).zip(quotas).filter(|(_, missing)| *missing > 0);
    let mut next = hungry.next();
    for owner in owners.0.iter_mut().flatten().filter(|owner| owner.is_none()) {
        let Some((member, missing)) = &mut next else { break };
        *owner = Some(*member);
        *missing -= 1;
        if *missing == 0 {
            next = hungry.next();
        }
    }
    owners.into_assignment(&spec.topics, spec.members.len())
}

/// How many partitions each member may have: one more than the rest for those that have the most already.
fn quotas(spec: &Spec<'_>, owners: &Owners) -> Vec<usize> {
    let members = spec.members.len();
    let mut held = vec![0usize; members];
    let mut total = 0usize;
    for owner in owners.0.iter().flatten() {
        total += 1;
        if let Some(held) = owner.and_then(|member| held.get_mut(member as usize)) {
            *held += 1;
        }
    }
    let least = total / members.max(1);
    let mut extra = total % members.max(1);
    let mut quotas = vec![least; members];
    // Those above the least first, then anybody.
    for above in [true, false] {
        for (quota, held) in quotas.iter_mut().zip(&held) {
            if extra > 0 && (*held > least) == above && *quota == least {
                *quota += 1;
                extra -= 1;
            }
        }
    }
    quotas
}
