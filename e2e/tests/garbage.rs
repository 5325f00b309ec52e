//! Does a daemon mind what strangers send?

use anyhow::Result;
use e2e::{Lab, now_us};

#[test]
fn garbage_on_every_port_harms_nobody() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let since = now_us();
    let place = lab.place_of("web")?;
    let service = lab.running(&place, "web");
    let workers = ["a", "b", "c"].map(|node| lab.worker(node).map(|worker| worker.pid).ok());
    let script = r#"
        for peer in 10.77.1.1 10.77.2.1 10.77.1.2 10.77.2.2; do
            for port in 7600 7601; do
                for size in 0 1 16 64 1200 9000; do
                    for i in 1 2 3 4 5; do head -c $size /dev/urandom > /dev/udp/$peer/$port; done
                done 2>/dev/null
                for i in 1 2 3; do (head -c 100000 /dev/urandom > /dev/tcp/$peer/$port) 2>/dev/null; done
                (printf 'GET / HTTP/1.0\r\n\r\n' > /dev/tcp/$peer/$port) 2>/dev/null
                # Some only hold the line.
                for i in 1 2 3 4 5 6 7 8; do (exec 9<>/dev/tcp/$peer/$port && sleep 2) 2>/dev/null & done
            done
        done
        wait
    "#;
    lab.exec("c", &["timeout", "60", "bash", "-c", script])?.ok()?;
    lab.wait_until_whole()?;
    let verdicts = lab.events_of(&["suspect", "condemned", "fence-called", "leader"], since)?;
    assert!(verdicts.is_empty(), "{verdicts:?}");
    assert_eq!(lab.running(&place, "web"), service);
    assert_eq!(["a", "b", "c"].map(|node| lab.worker(node).map(|worker| worker.pid).ok()), workers, "nobody fell over");
    Ok(())
}
