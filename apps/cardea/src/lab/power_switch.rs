//! Who cuts the power? A power switch with a plug per node, listening on an address of each lab network.
//!
//! In: lines `status|off|on PLUG` and `list`. Out: `ok on`, `ok off`, `ok PLUG PLUG…` or `error REASON`. It answers `off` to `status` only for what
//! is proven off. A node that is cut from both networks cannot reach it, as with a real one.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::layout::POWER_SWITCH_PORT;

/// What a power switch can do with a plug.
pub trait Plugs: Send + Sync {
    /// The names of the plugs.
    fn names(&self) -> Vec<String>;
    /// Is the plug on?
    fn is_on(&self, plug: &str) -> anyhow::Result<bool>;
    /// Cuts its power; returns when it is off.
    fn off(&self, plug: &str) -> anyhow::Result<()>;
    /// Gives it power.
    fn on(&self, plug: &str) -> anyhow::Result<()>;
}

/// Listens on the switch's port of each address, on threads of its own, as long as the process lives.
pub fn serve(addresses: &[IpAddr], plugs: &Arc<dyn Plugs>) -> anyhow::Result<()> {
    for address in addresses {
        let listener = TcpListener::bind(SocketAddr::new(*address, POWER_SWITCH_PORT))
            .with_context(|| format!("the power switch cannot listen on {address}"))?;
        let plugs = Arc::clone(plugs);
        thread::Builder::new().name("power-switch".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let plugs = Arc::clone(&plugs);
                // Without a thread this caller gets no answer and tries the other address or tries again.
                let _ = thread::Builder::new().spawn(move || talk(&stream, &*plugs));
            }
        })?;
    }
    Ok(())
}

fn talk(stream: &TcpStream, plugs: &dyn Plugs) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut lines = BufReader::new(stream).lines();
    let mut out = stream;
    while let Some(Ok(line)) = lines.next() {
        let answer = match answer(&line, plugs) {
            Ok(word) => format!("ok {word}\n"),
            Err(error) => format!("error {}\n", format!("{error:#}").replace('\n', " ")),
        };
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(line: &str, plugs: &dyn Plugs) -> anyhow::Result<String> {
    match line.split_ascii_whitespace().collect::<Vec<&str>>().as_slice() {
        ["list"] => Ok(plugs.names().join(" ")),
        ["status", plug] => Ok(if plugs.is_on(plug)? { "on" } else { "off" }.to_owned()),
        ["off", plug] => plugs.off(plug).map(|()| "off".to_owned()),
        ["on", plug] => plugs.on(plug).map(|()| "on".to_owned()),
        _ => anyhow::bail!("say list, or status, off or on and a plug"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct One(AtomicBool);

    impl Plugs for One {
        fn names(&self) -> Vec<String> {
            vec!["a".to_owned()]
        }
        fn is_on(&self, plug: &str) -> anyhow::Result<bool> {
            anyhow::ensure!(plug == "a", "there is no plug {plug}");
            Ok(self.0.load(Ordering::SeqCst))
        }
        fn off(&self, _plug: &str) -> anyhow::Result<()> {
            self.0.store(false, Ordering::SeqCst);
            Ok(())
        }
        fn on(&self, _plug: &str) -> anyhow::Result<()> {
            self.0.store(true, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn it_says_off_only_after_it_is_off() {
        let plugs = One(AtomicBool::new(true));
        assert_eq!(answer("list", &plugs).expect("an answer"), "a");
        assert_eq!(answer("status a", &plugs).expect("an answer"), "on");
        assert_eq!(answer("off a", &plugs).expect("an answer"), "off");
        assert_eq!(answer("status a", &plugs).expect("an answer"), "off");
        assert!(answer("status zebra", &plugs).is_err());
        assert!(answer("explode a", &plugs).is_err());
        assert!(answer("", &plugs).is_err());
    }
}
