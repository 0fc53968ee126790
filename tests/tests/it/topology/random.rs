//! Random clusters: realistic ones and edge cases.

use serde_json::{Value, json};
use unitring_tests::shell::Shell;
use unitring_tests::traffic::keys::Numbers;

use super::address::{Addresses, pick};
use super::cluster::{Checks, Cluster, Host, Locality, Outliers, Source};
use super::policy::{Kind, Policy};
use super::responder::{Check, Request};
use super::shell;

/// The distributions from which the hosts of one cluster are drawn.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    /// Percentage of the hosts without any problem.
    well_percent: u64,
    /// Minimum number of hosts in a locality.
    hosts_min: u64,
    greatest_weight: u64,
    greatest_locality_weight: u64,
    /// Whether a host may be at an address without a server, which outlier detection would eject.
    any_address: bool,
    /// Whether all hosts have IP addresses, like the names of DNS here.
    only_ip: bool,
    /// How many in ten repeat the address of another host.
    repeated: u64,
    /// How many in ten have a `hash_key`, and a hostname.
    named: u64,
}

impl Draws {
    pub(super) fn random(numbers: &mut Numbers, cluster: &Cluster) -> Self {
        // A ring of unbounded size has millions of points if weights are far apart.
        let is_bounded = !matches!(cluster.policy.kind, Kind::Ring { max_size: None, .. });
        let far = if is_bounded { 1_000_000 } else { 12 };
        Self {
            well_percent: numbers.pick(&[100, 85, 70, 50, 40, 25, 0]),
            hosts_min: 0,
            greatest_weight: numbers.pick(&[1, 1, 3, 10, far]),
            greatest_locality_weight: numbers.pick(&[1, 3, 10, far]),
            any_address: cluster.outliers.is_none() || numbers.below(3) == 0,
            only_ip: matches!(cluster.source, Source::Dns),
            repeated: numbers.pick(&[0, 0, 1, 3]),
            // Hosts without hostnames are all the same to Envoy where it places by hostname.
            named: match cluster.policy.by_hostname {
                Some(true) if numbers.below(8) > 0 => 10,
                _ => numbers.pick(&[0, 0, 3, 10]),
            },
        }
    }
}

pub(super) fn cluster(
    number: usize,
    shell: Shell,
    windows: &[f64],
    numbers: &mut Numbers,
    addresses: &Addresses,
) -> (Cluster, Draws) {
    let weighted_priority_health = numbers.below(3) == 0;
    let source = match numbers.below(8) {
        0..3 => Source::Static,
        3 => Source::Dns,
        4 => Source::Eds {
            service_name: Some(format!("eds/service|{number}")),
        },
        _ => Source::Eds { service_name: None },
    };
    let checks = (numbers.below(2) == 0).then(|| Checks {
        unhealthy_threshold: numbers.pick(&[1, 1, 2]),
        healthy_threshold: numbers.pick(&[1, 1, 2]),
        ignore_new: numbers.below(2) == 0,
    });
    let outliers = (numbers.below(4) == 0).then(|| Outliers {
        consecutive_5xx: numbers.pick(&[1, 1, 2, 3]),
        max_percent: numbers.pick(&[Some(100), Some(100), Some(50), None]),
        check_unejects: numbers.below(4) == 0,
        degraded: numbers.below(3) == 0,
    });
    let is_eds = matches!(source, Source::Eds { .. });
    let mut cluster = Cluster {
        number,
        name: name(number, numbers),
        by_api: numbers.below(2) == 0,
        source,
        policy: shell::without_untold(shell, Policy::random(numbers)),
        shell,
        panic_percent: panic_percent(numbers),
        merge_window: (!windows.is_empty()).then(|| *pick(numbers, windows)),
        checks,
        outliers,
        ignore_health_on_removal: numbers.below(4) == 0,
        overprovisioning: overprovisioning(numbers),
        weighted_priority_health,
        told_weighted: (is_eds && numbers.below(4) > 0).then_some(weighted_priority_health),
        localities: Vec::new(),
        removed: Vec::new(),
    };
    let mut draws = Draws::random(numbers, &cluster);
    let mut priorities = vec![0, 1, 2];
    if numbers.below(5) == 0 {
        // So few healthy hosts that keys go to several priorities, some of which panic.
        draws.well_percent = numbers.pick(&[0, 10, 25]);
        draws.hosts_min = 3;
        cluster.panic_percent = Some(f64::from(10 + below(numbers, 60)));
        cluster.overprovisioning = numbers.pick(&[None, None, Some(100), Some(120)]);
    } else {
        priorities.truncate(numbers.pick(&[1, 1, 2, 2, 3]));
    }
    if numbers.below(12) == 0 && cluster.is_eds() {
        // A missing first priority: Envoy has it without hosts.
        priorities.remove(0);
    }
    for priority in priorities {
        for _ in 0..=numbers.below(3) {
            let locality = locality(priority, &draws, numbers, addresses);
            cluster.localities.push(locality);
        }
    }
    // The order of a list matters to Envoy in some places.
    if numbers.below(3) == 0 {
        numbers.shuffle(&mut cluster.localities);
    }
    for host in cluster
        .localities
        .iter_mut()
        .flat_map(|locality| &mut locality.hosts)
    {
        // Envoy would not start before the first check of each host has its answer.
        if host.check == Check::Silent {
            host.check = Check::Fails;
        }
    }
    (cluster, draws)
}

/// Names in the style of Istio, Envoy Gateway, Contour and users.
fn name(number: usize, numbers: &mut Numbers) -> String {
    match numbers.below(6) {
        0 => format!("outbound|80{number:02}||orders.default.svc.cluster.local"),
        1 => format!("httproute/default/orders/rule/{number}"),
        2 => format!("default/kuard/{number}/da39a3ee5e"),
        3 => format!("a::b+{number}(c)"),
        _ => format!("orders.{number}"),
    }
}

pub(super) fn panic_percent(numbers: &mut Numbers) -> Option<f64> {
    match numbers.below(8) {
        0 | 1 => None,
        2 => Some(0.0),
        3 => Some(100.0),
        4 => Some(f64::from(below(numbers, 101))),
        // Envoy cuts them to whole percentages, and its doubles make one less of some of these.
        5 => Some(numbers.pick(&[29.0, 57.0, 58.0, 33.4, 66.7, 49.9, 0.9])),
        _ => Some(f64::from(below(numbers, 1_001)) / 10.0),
    }
}

/// The panic threshold of the runtime, which is that of every cluster. The native module cannot know it.
pub(super) fn runtime_percent(shell: Shell, numbers: &mut Numbers) -> Option<u32> {
    let percent = match numbers.below(6) {
        0 => Some(0),
        1 => Some(100),
        2 => Some(below(numbers, 120)),
        _ => None,
    };
    percent.filter(|_| shell == Shell::Filter)
}

pub(super) fn overprovisioning(numbers: &mut Numbers) -> Option<u32> {
    match numbers.below(8) {
        0..4 => None,
        4 => Some(100),
        5 => Some(1 + below(numbers, 99)),
        6 => Some(100 + below(numbers, 100)),
        _ => Some(numbers.pick(&[200, 1_000, 100_000])),
    }
}

pub(super) fn locality(
    priority: u32,
    draws: &Draws,
    numbers: &mut Numbers,
    addresses: &Addresses,
) -> Locality {
    let place = [
        numbers.pick(&["", "north", "south"]),
        numbers.pick(&["", "a", "b"]),
        numbers.pick(&["", "", "1"]),
    ];
    let mut locality = Locality {
        priority,
        place,
        weight: locality_weight(draws, numbers),
        hosts: Vec::new(),
    };
    let count = match numbers.below(12) {
        0 => 0,
        1 => 12,
        2 | 3 => 4 + numbers.below(5),
        _ => 1 + numbers.below(4),
    };
    for _ in 0..count.max(draws.hosts_min) {
        let host = host(draws, numbers, addresses);
        locality.hosts.push(host.clone());
        if numbers.below(10) < draws.repeated {
            // The same address once more: unchanged, or with another weight or name.
            let mut other = self::host(draws, numbers, addresses);
            other.address = host.address.clone();
            locality
                .hosts
                .push(if numbers.below(2) == 0 { host } else { other });
        }
    }
    locality
}

pub(super) fn locality_weight(draws: &Draws, numbers: &mut Numbers) -> Option<u32> {
    let weight = 1 + below(numbers, draws.greatest_locality_weight);
    (numbers.below(4) > 0).then_some(weight)
}

pub(super) fn host(draws: &Draws, numbers: &mut Numbers, addresses: &Addresses) -> Host {
    let additional = (!draws.only_ip && numbers.below(20) == 0).then(|| {
        // Envoy requires a list of IP addresses.
        addresses.draw_ip(numbers)
    });
    let mut host = Host {
        address: match (draws.only_ip, &additional) {
            (false, None) => addresses.draw(numbers, draws.any_address),
            _ => addresses.draw_ip(numbers),
        },
        additional,
        hostname: hostname(draws, numbers),
        hash_key: hash_key(draws, numbers),
        weight: weight(draws, numbers),
        eds_health: "UNKNOWN",
        unchecked: false,
        check: Check::Passes,
        request: Request::Served,
    };
    sicken(&mut host, draws, numbers);
    host
}

/// Draws new health for a host.
pub(super) fn sicken(host: &mut Host, draws: &Draws, numbers: &mut Numbers) {
    host.unchecked = numbers.below(16) == 0;
    host.eds_health = numbers.pick(&["UNKNOWN", "HEALTHY"]);
    host.check = Check::Passes;
    host.request = Request::Served;
    if numbers.below(100) < draws.well_percent {
        return;
    }
    if numbers.below(2) == 0 {
        host.eds_health =
            numbers.pick(&["UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED", "DEGRADED"]);
    }
    if numbers.below(2) == 0 {
        host.check = numbers.pick(&[
            Check::Fails,
            Check::Fails,
            Check::Degraded,
            Check::Leaves,
            Check::Silent,
            Check::Silent,
        ]);
    }
    host.request = numbers.pick(&[
        Request::Served,
        Request::Fails,
        Request::Fails,
        Request::Degraded,
    ]);
}

pub(super) fn weight(draws: &Draws, numbers: &mut Numbers) -> Option<u32> {
    let weight = 1 + below(numbers, draws.greatest_weight);
    (draws.greatest_weight > 1).then_some(weight)
}

pub(super) fn hostname(draws: &Draws, numbers: &mut Numbers) -> String {
    if numbers.below(10) >= draws.named {
        return String::new();
    }
    match numbers.below(12) {
        0 if numbers.below(4) == 0 => "::1".to_owned(),
        1 if numbers.below(4) == 0 => "orders.example".to_owned(),
        _ => format!("host-{}.example", numbers.below(10_000)),
    }
}

pub(super) fn hash_key(draws: &Draws, numbers: &mut Numbers) -> Option<Value> {
    if numbers.below(10) >= draws.named {
        return None;
    }
    Some(match numbers.below(12) {
        0 => json!(""),
        1 => json!(7),
        2 => json!(["a"]),
        3 => json!(null),
        4 if numbers.below(4) == 0 => json!("the same"),
        5 => json!(format!("\"key\" – \\ {}", numbers.below(10_000))),
        _ => json!(format!("key-{}", numbers.below(10_000))),
    })
}

fn below(numbers: &mut Numbers, end: u64) -> u32 {
    u32::try_from(numbers.below(end)).expect("a small bound")
}
