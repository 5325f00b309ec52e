//! Does the unit file say what the daemon needs? Read as systemd reads it, in tests alone.

use std::collections::BTreeMap;

/// `packaging/cardea.service`: the values of each key, by section.
pub struct UnitFile {
    values: BTreeMap<(String, String), Vec<String>>,
}

impl UnitFile {
    /// The one that is packaged.
    pub fn packaged() -> UnitFile {
        UnitFile::parse(include_str!("../../../packaging/cardea.service"))
    }

    fn parse(text: &str) -> UnitFile {
        let mut values: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let mut section = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                continue;
            }
            let (key, value) = line.split_once('=').expect("a line is KEY=VALUE");
            values.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
        }
        UnitFile { values }
    }

    /// The value of a key that is there once.
    pub fn one(&self, section: &str, key: &str) -> &str {
        let found = self.values.get(&(section.to_owned(), key.to_owned())).map_or(&[][..], Vec::as_slice);
        let [value] = found else { panic!("[{section}] {key} is there {} times", found.len()) };
        value
    }

    fn has(&self, key: &str) -> bool {
        self.values.keys().any(|(_, present)| present == key)
    }

    /// Does systemd leave it down when it ends with this status?
    pub fn stays_down(&self, status: i32) -> bool {
        let prevented = self.one("Service", "RestartPreventExitStatus").split(' ');
        self.one("Service", "Restart") != "always" || prevented.map(str::parse).any(|kept| kept == Ok(status))
    }
}

#[test]
fn systemd_never_gives_up_on_the_daemon() {
    let unit = UnitFile::packaged();
    assert_eq!(unit.one("Unit", "StartLimitIntervalSec"), "0", "no number of early ends is too many");
    assert_eq!(unit.one("Service", "Restart"), "always");
    // Zero: it was told to end, by `cardea shutdown` as well as by systemd.
    let stays_down = format!("0 {}", host::supervise::EXIT_FINAL);
    assert_eq!(unit.one("Service", "RestartPreventExitStatus"), stays_down);
    assert!(!unit.has("StartLimitBurst") && !unit.has("RestartMaxDelaySec") && !unit.has("WatchdogSec"));
}

#[test]
fn services_outlive_the_daemon_and_are_known_afterwards() {
    let unit = UnitFile::packaged();
    assert_eq!(unit.one("Service", "KillMode"), "process");
    assert_eq!(unit.one("Service", "RuntimeDirectoryPreserve"), "yes");
    assert_eq!(unit.one("Service", "Delegate"), "yes");
    assert!(unit.one("Service", "ExecStart").ends_with(" daemon --reboot machine"));
}

/// Services are stopped before the daemon ends, and a database takes its time.
#[test]
fn systemd_waits_for_the_stops_of_services() {
    let waits: u64 = UnitFile::packaged().one("Service", "TimeoutStopSec").parse().expect("a number");
    assert!(waits >= crate::daemon::worker::LEAVE_PATIENCE.as_secs() + 60, "{waits}");
}

#[test]
fn the_unit_file_limits_what_can_be_limited() {
    let unit = UnitFile::packaged();
    for (key, value) in [
        ("UMask", "0077"),
        ("LimitCORE", "0"),
        ("RuntimeDirectory", "cardea"),
        ("RuntimeDirectoryMode", "0755"),
        ("StateDirectoryMode", "0700"),
        ("LogsDirectoryMode", "0700"),
        ("LimitMEMLOCK", "infinity"),
        ("OOMScoreAdjust", "-900"),
    ] {
        assert_eq!(unit.one("Service", key), value, "{key}");
    }
    let (own, most) = unit.one("Service", "LimitNOFILE").split_once(':').expect("two numbers");
    assert!(own.parse::<u64>().expect("a number") < most.parse::<u64>().expect("a number"), "services get the first");
    assert!(most.parse::<u64>().expect("a number") >= 65_536);
    for forbidden in ["RestrictRealtime", "ProtectClock", "PrivateTmp", "ProtectSystem", "NoNewPrivileges"] {
        assert!(!unit.has(forbidden), "{forbidden} would hold for what the daemon runs as well");
    }
}
