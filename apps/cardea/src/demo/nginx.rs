//! How does the demo run nginx, where it is installed? As one process in the foreground that names its node, with every
//! file of its own below the node's /run.

use std::path::{Path, PathBuf};

use crate::lab::layout::{SERVICE_ADDRESS, SERVICE_PORT};

/// Name of the configuration below /run/cardea-lab.
pub const FILE: &str = "nginx.conf";

/// Where nginx is installed, if it is.
pub fn find() -> Option<PathBuf> {
    ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].map(PathBuf::from).into_iter().find(|p| p.exists())
}

/// The command line for a node.
pub fn command(nginx: &Path) -> Vec<String> {
    let words = ["-p", "/run/cardea-lab", "-c", "/run/cardea-lab/nginx.conf", "-e", "stderr"];
    [nginx.to_string_lossy().into_owned()].into_iter().chain(words.map(str::to_owned)).collect()
}

/// The configuration; the same on every node, for nginx asks for the host name itself.
pub fn configuration() -> String {
    format!(
        "daemon off;\nmaster_process off;\nuser root;\nworker_processes 1;\nerror_log stderr warn;\n\
         pid /run/cardea-lab/nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  \
         client_body_temp_path /run/cardea-lab/body;\n  proxy_temp_path /run/cardea-lab/proxy;\n  \
         fastcgi_temp_path /run/cardea-lab/fastcgi;\n  uwsgi_temp_path /run/cardea-lab/uwsgi;\n  \
         scgi_temp_path /run/cardea-lab/scgi;\n  \
         server {{\n    listen {SERVICE_ADDRESS}:{SERVICE_PORT};\n    default_type text/plain;\n    \
         add_header X-Cardea-Node $hostname;\n    return 200 \"$hostname\\n\";\n  }}\n}}\n"
    )
}
