//! How do commands talk to the daemon? HTTP with JSON on a Unix socket.
//!
//! Whoever may be root, or is the daemon's own user, may change things; others may look. A request to change something
//! goes to the leader's daemon, which translates it; other daemons pass it on over their TLS streams.
//!
//! One thread answers everybody, so nothing that takes long runs on it: plans are made on threads of their own, and
//! `doors.rs` limits who may keep it busy.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::{FenceTestResult, Refused, RefusedCode, Reply, Request, Status};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Query, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use model::NodeId;
use node::{Answer, View};
use scheduler::Supposition;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, oneshot};

use super::doors::{Busy, Caller, Doors};
use super::events::Events;
use super::examine;
use super::guards;
use super::own_links;
use super::peers;
use super::plans;
use super::requests::{self, Order};
use super::status;
use super::worker::{Hub, Work};
use crate::shown;

/// How long a request may take before its asker is told that nobody knows.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest request, in bytes.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest file, and the most copies of resources, that somebody who is not root may have planned.
const TEXT_BYTES_OF_OTHERS: usize = 64 * 1024;
const INSTANCES_OF_OTHERS: usize = 500;
/// Suppositions, and names to explain, in one question.
const SUPPOSITIONS_MAX: usize = 100;

/// A request on its way to the leader.
#[derive(Debug, Serialize, Deserialize)]
struct Forwarded {
    actor: String,
    request: Request,
    /// See [`Confirmation`].
    #[serde(default)]
    confirm: Option<String>,
}

/// Serves the API at `path` until the process ends.
pub async fn serve(path: &Path, hub: Arc<Hub>) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            return Err(cause).with_context(|| format!("cannot remove the old socket {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .with_context(|| format!("cannot open {} to readers", path.display()))?;
    axum::serve(Doors::new(listener), router(hub).into_make_service_with_connect_info::<Caller>()).await?;
    Ok(())
}

fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/status", get(get_status))
        .route("/v1/explain", get(get_explain))
        .route("/v1/history", get(get_history))
        .route("/v1/versions", get(get_versions))
        .route("/v1/events", get(get_events))
        .route("/v1/plan", post(post_plan))
        .route("/v1/what-if", post(post_what_if))
        .route("/v1/request", post(post_request))
        .fallback(nothing_here)
        .layer(axum::middleware::from_fn(take_whole))
        .with_state(hub)
}

/// Takes a request only when it is whole, and keeps its connection open while it is answered.
async fn take_whole(ConnectInfo(caller): ConnectInfo<Caller>, request: HttpRequest, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match axum::body::to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => {
            let _busy = caller.keep_open();
            next.run(HttpRequest::from_parts(head, body.into())).await
        }
        Err(_) => refuse(Refused::new(
            RefusedCode::Invalid,
            format!("the request is broken, or longer than {BODY_BYTES_MAX} bytes"),
            "ask for less at once",
        )),
    }
}

async fn nothing_here() -> Response {
    refuse(Refused::new(RefusedCode::Invalid, "there is no such path", "see `cardea --help` for what can be asked"))
}

fn refuse(refused: Refused) -> Response {
    let code = match refused.code {
        RefusedCode::Invalid | RefusedCode::Failed => StatusCode::BAD_REQUEST,
        RefusedCode::NotQuorate | RefusedCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
        RefusedCode::Conflict | RefusedCode::Unconfirmed => StatusCode::CONFLICT,
        RefusedCode::Forbidden => StatusCode::FORBIDDEN,
        RefusedCode::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    };
    (code, Json(refused)).into_response()
}

async fn get_status(State(hub): State<Arc<Hub>>) -> Json<Status> {
    let picture = hub.picture();
    let faults = hub.board().faults(&picture.view, host::identity::now());
    Json(status::status(&picture.view, picture.age_ms(), faults))
}

#[derive(Deserialize)]
struct About {
    name: String,
}

async fn get_explain(State(hub): State<Arc<Hub>>, Query(about): Query<About>) -> Response {
    let picture = hub.picture();
    let faults = hub.board().faults(&picture.view, host::identity::now());
    match status::explain(&picture.view, &about.name, &faults) {
        Some(explanation) => Json(explanation).into_response(),
        None => refuse(Refused::new(
            RefusedCode::Invalid,
            format!("there is no node, group or resource `{}`", about.name),
            "`cardea status` shows what there is",
        )),
    }
}

#[derive(Deserialize)]
struct Limit {
    #[serde(default = "hundred")]
    limit: usize,
    subject: Option<String>,
}

fn hundred() -> usize {
    100
}

async fn get_history(State(hub): State<Arc<Hub>>, Query(limit): Query<Limit>) -> Response {
    let picture = hub.picture();
    let is_asked = |subject: &str| limit.subject.as_deref().is_none_or(|asked| asked == subject);
    let problems = hub.events().those(|event| event.problem.is_some() && is_asked(&event.subject));
    let agreed = status::history(&picture.view.state, limit.limit, limit.subject.as_deref());
    Json(status::with_problems(agreed, &problems, limit.limit)).into_response()
}

async fn get_versions(State(hub): State<Arc<Hub>>, ConnectInfo(caller): ConnectInfo<Caller>) -> Response {
    let may_see_all = caller.may_change();
    answer_aside(&caller, move || {
        let mut versions = status::versions(&hub.picture().view.state);
        if !may_see_all {
            status::hide_secrets(&mut versions);
        }
        Ok(Json(versions).into_response())
    })
    .await
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
    #[serde(default)]
    follow: bool,
}

async fn get_events(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(since): Query<Since>,
) -> Response {
    if !since.follow {
        return Json(hub.events().since(since.since)).into_response();
    }
    Sse::new(follow(hub.events().clone(), since.since, caller.keep_open())).into_response()
}

/// Every event after `since`, those to come included.
fn follow(events: Events, since: u64, busy: Busy) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    let listener = events.listen();
    let start = (events, listener, since, Vec::new().into_iter(), busy);
    stream::unfold(start, |(events, mut listener, mut last, mut ready, busy)| async move {
        loop {
            if let Some(event) = ready.next() {
                let event: api::Event = event;
                last = event.number;
                let text = serde_json::to_string(&event).unwrap_or_default();
                return Some((Ok(SseEvent::default().data(text)), (events, listener, last, ready, busy)));
            }
            let missed = events.since(last);
            if missed.is_empty() {
                listener.wait().await;
            } else {
                ready = missed.into_iter();
            }
        }
    })
}

#[derive(Deserialize)]
struct PlanQuestion {
    text: String,
}

/// What would change if this file were applied.
async fn post_plan(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(question): Json<PlanQuestion>,
) -> Response {
    if let Err(refused) = refuse_too_much(&caller, question.text.len(), TEXT_BYTES_OF_OTHERS, "bytes of a cluster file")
    {
        return refuse(refused);
    }
    let may_ask_much = caller.may_change();
    let parsed = match requests::parse(&question.text, "cluster.toml") {
        Ok(parsed) => parsed,
        Err(refused) => return refuse(refused),
    };
    // Agents run as root, on all nodes: not whenever any user likes. Nodes are asked for root alone.
    let (mut of_agents, mut of_links) = (Vec::new(), Vec::new());
    if may_ask_much {
        of_links = match own_links::refuse_wrong_links(&hub, &parsed.config).await {
            Ok(warnings) => warnings,
            Err(refused) => return refuse(refused),
        };
        of_agents = examine::everywhere(&hub, &question.text, &parsed.config).await;
    }
    answer_aside(&caller, move || {
        let picture = hub.picture();
        requests::refuse_what_cannot_run(&parsed.config)?;
        requests::refuse_other_cluster(&picture.view.state, &parsed.config)?;
        if !may_ask_much {
            let instances = config::instances(&parsed.config);
            refuse_more_than(instances, INSTANCES_OF_OTHERS, "copies of resources")?;
        }
        let warnings = parsed.warnings.iter().map(|warning| warning.message.clone()).chain(of_links).collect();
        Ok(Json(plans::of_file(&picture.view, parsed.config, warnings, of_agents)).into_response())
    })
    .await
}

fn refuse_too_much(caller: &Caller, asked: usize, allowed: usize, what: &str) -> Result<(), Refused> {
    if caller.may_change() { Ok(()) } else { refuse_more_than(asked, allowed, what) }
}

fn refuse_more_than(asked: usize, allowed: usize, what: &str) -> Result<(), Refused> {
    if asked <= allowed {
        return Ok(());
    }
    let message = format!("{asked} {what} are more than the {allowed} that a user may ask about");
    Err(Refused::new(RefusedCode::Forbidden, message, "ask as root, with sudo"))
}

/// Answers a question that may take long on a thread of its own: one at a time for root, and one for all others.
async fn answer_aside(
    caller: &Caller,
    answer: impl FnOnce() -> Result<Response, Refused> + Send + 'static,
) -> Response {
    static ROOT: Semaphore = Semaphore::const_new(1);
    static OTHERS: Semaphore = Semaphore::const_new(1);
    let turns = if caller.may_change() { &ROOT } else { &OTHERS };
    let answered = tokio::time::timeout(PATIENCE, async move {
        // These are never closed. The turn lasts as long as the work, whether or not somebody waits for it.
        let turn = turns.acquire().await;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            answer()
        })
        .await
    });
    match answered.await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(refused))) => refuse(refused),
        Ok(Err(cause)) => {
            tracing::error!(%cause, "a question of the API could not be answered");
            let next = "`journalctl -u cardea` says more";
            refuse(Refused::new(RefusedCode::Invalid, "the daemon failed to answer this", next))
        }
        Err(_) => refuse(Refused::new(
            RefusedCode::Busy,
            format!("there was no answer within {} s: it asks for too much, or others ask as well", PATIENCE.as_secs()),
            "ask for less at once, or again later",
        )),
    }
}

#[derive(Deserialize)]
struct Suppositions {
    what_if: Vec<String>,
    /// What to explain for every node.
    #[serde(default)]
    why: Vec<String>,
    /// Fields instead of sentences.
    #[serde(default)]
    json: bool,
}

/// What would be done if something happened now.
async fn post_what_if(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(question): Json<Suppositions>,
) -> Response {
    let asked = question.what_if.len().max(question.why.len());
    if let Err(refused) = refuse_more_than(asked, SUPPOSITIONS_MAX, "suppositions or names") {
        return refuse(refused);
    }
    answer_aside(&caller, move || {
        let view = &hub.picture().view;
        let suppositions: Result<Vec<Supposition>, _> = question.what_if.iter().map(|text| text.parse()).collect();
        let (situation, votes) = suppositions
            .and_then(|all| scheduler::situation_if(&view.state, &view.live, &view.voters, &all))
            .map_err(|error| {
                let next = "`cardea status` shows the nodes and what runs on them";
                Refused::new(RefusedCode::Invalid, error.to_string(), next)
            })?;
        let none = votes.majority(&situation).err();
        let shown = if question.json {
            shown::as_json(&situation, &question.why, none.as_ref())
        } else {
            shown::as_text(&situation, &question.why, none.as_ref()).map(serde_json::Value::String)
        };
        let shown = shown.map_err(|error| {
            Refused::new(RefusedCode::Invalid, error.to_string(), "`cardea status` shows what there is")
        })?;
        Ok(Json(shown).into_response())
    })
    .await
}

/// That what would be lost is meant to be lost: the word of a refusal, or [`api::CONFIRM_ALL`].
#[derive(Deserialize)]
struct Confirmation {
    confirm: Option<String>,
}

async fn post_request(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(Confirmation { confirm }): Query<Confirmation>,
    Json(request): Json<Request>,
) -> Response {
    if !caller.may_change() {
        return refuse(Refused::new(
            RefusedCode::Forbidden,
            "only root may change the cluster",
            "run the command again with sudo",
        ));
    }
    let name = hub.picture().view.state.name_of(hub.own());
    if let Request::ShutDown { all: false, reason } = &request {
        return match shut_down_here(&hub, &caller.actor(&name), reason, confirm.as_deref()) {
            Ok(reply) => Json(reply).into_response(),
            Err(refused) => refuse(refused),
        };
    }
    let asked = Forwarded { actor: caller.actor(&name), request, confirm };
    match carry_out(&hub, asked).await {
        Ok(reply) => Json(reply).into_response(),
        Err(refused) => refuse(refused),
    }
}

/// Ends this daemon in order. It needs no leader: without one, what runs here is stopped here.
fn shut_down_here(hub: &Hub, actor: &str, reason: &str, confirm: Option<&str>) -> Result<Reply, Refused> {
    let picture = hub.picture();
    guards::check_end(&picture.view, confirm)?;
    tracing::info!(%actor, %reason, "an operator shuts this node down");
    hub.tell(Work::Terminate);
    let name = picture.view.state.name_of(hub.own());
    let message = format!("{name} ends: what runs there goes elsewhere first, or is stopped where it is");
    Ok(Reply { version: api::VERSION, index: 0, message, token: None, fence_tests: Vec::new() })
}

/// Here if this node leads, else where the leader is.
async fn carry_out(hub: &Arc<Hub>, asked: Forwarded) -> Result<Reply, Refused> {
    let picture = hub.picture();
    let leader = picture.view.leader.filter(|_| picture.view.is_quorate);
    match leader {
        None => Err(not_quorate()),
        Some(leader) if leader == hub.own() => carry_out_here(hub, asked).await,
        Some(leader) => pass_on(hub, leader, asked).await,
    }
}

pub(super) fn not_quorate() -> Refused {
    Refused::new(
        RefusedCode::NotQuorate,
        "this node does not belong to a majority with a leader: nothing can be changed from here",
        "`cardea status` shows which nodes are heard; ask again on a node of the majority, or once it is back",
    )
}

async fn pass_on(hub: &Arc<Hub>, leader: NodeId, forwarded: Forwarded) -> Result<Reply, Refused> {
    let bytes = peers::request_question(serde_json::to_value(&forwarded).expect("a request is plain data"));
    let name = hub.picture().view.state.name_of(leader);
    let answer = hub.ask_peer(leader, bytes, PATIENCE).await.map_err(|cause| {
        Refused::new(
            RefusedCode::TimedOut,
            format!("the leader {name} gave no answer: {cause}; the request may or may not be carried out"),
            "`cardea status` shows what became of it",
        )
    })?;
    let answer: Result<Reply, Refused> = serde_json::from_slice(&answer).map_err(|cause| {
        Refused::new(
            RefusedCode::TimedOut,
            format!("the answer of {name} makes no sense: {cause}"),
            "`cardea --version` on both nodes",
        )
    })?;
    answer
}

/// Another daemon passed a request on to this one, which should lead.
///
/// Its certificate says which node it is; what it says about who asked there counts only as its word.
pub async fn on_forwarded(hub: &Arc<Hub>, from: NodeId, forwarded: serde_json::Value) -> Vec<u8> {
    let answer = match take_forwarded(hub, from, forwarded) {
        Ok(asked) => carry_out_here(hub, asked).await,
        Err(refused) => Err(refused),
    };
    serde_json::to_vec(&answer).expect("an answer is plain data")
}

fn take_forwarded(hub: &Hub, from: NodeId, forwarded: serde_json::Value) -> Result<Forwarded, Refused> {
    let view = &hub.picture().view;
    if !view.is_quorate || view.leader != Some(hub.own()) {
        return Err(not_quorate());
    }
    peers::may_pass_on(&view.state, from).map_err(|why| {
        Refused::new(RefusedCode::Forbidden, why, "run the command on an online member that runs resources")
    })?;
    let forwarded: Forwarded = serde_json::from_value(forwarded).map_err(|cause| {
        Refused::new(RefusedCode::Invalid, format!("not a request: {cause}"), "`cardea --version` on both nodes")
    })?;
    let actor = format!("{} via {}", forwarded.actor, view.state.name_of(from));
    Ok(Forwarded { actor, ..forwarded })
}

async fn carry_out_here(hub: &Arc<Hub>, asked: Forwarded) -> Result<Reply, Refused> {
    let (request, actor) = (shown_safely(asked.request), without_controls(&asked.actor));
    if let Request::Apply { text, force: false, .. } = &request
        && let Ok(parsed) = config::parse(text)
    {
        own_links::refuse_wrong_links(hub, &parsed.config).await?;
    }
    let request = examine::admit(hub, request).await?;
    let picture = hub.picture();
    let order = requests::translate(&picture.view, request, hub.authority(), host::identity::wall())?;
    let order = guarded(picture.clone(), order, asked.confirm).await?;
    let mut reply =
        Reply { version: api::VERSION, index: 0, message: order.done, token: order.token, fence_tests: Vec::new() };
    for ask in order.asks {
        let tested = match &ask {
            node::Request::FenceTest { node } => Some(*node),
            _ => None,
        };
        match ask_node(hub, ask, actor.clone()).await? {
            Answer::Done { index } => reply.index = reply.index.max(index),
            Answer::Refused(why) => {
                let code = if why.contains("version") { RefusedCode::Conflict } else { RefusedCode::Forbidden };
                return Err(Refused::new(code, why.clone(), requests::next_after(&why)));
            }
            Answer::NotLeader { .. } => return Err(not_quorate()),
            Answer::FenceTests(results) => {
                let name = tested.map_or_else(String::new, |id| picture.view.state.name_of(id));
                // It must have been heard before and after: it may have gone off, or come, meanwhile.
                let after = hub.picture();
                let is_heard =
                    tested.is_some_and(|id| status::is_heard(&picture.view, id) && status::is_heard(&after.view, id));
                reply.fence_tests.extend(results.into_iter().map(|result| show_test(&name, is_heard, result)));
            }
        }
    }
    Ok(reply)
}

/// Refuses an order that would take something away and is not confirmed. The plans that this takes are made aside.
async fn guarded(picture: Arc<Picture>, order: Order, confirm: Option<String>) -> Result<Order, Refused> {
    let checked = tokio::task::spawn_blocking(move || {
        guards::check(&picture.view, &order.asks, confirm.as_deref())?;
        Ok(order)
    });
    checked.await.unwrap_or_else(|cause| {
        tracing::error!(%cause, "it could not be found out what a request would take away");
        let next = "`journalctl -u cardea` says more; nothing was changed";
        Err(Refused::new(RefusedCode::Failed, "the daemon failed to find out what this would take away", next))
    })
}

/// Reasons and names end up on terminals: they must not steer them. A cluster file stays as it is.
fn shown_safely(request: Request) -> Request {
    let clean = |request: &Request| -> serde_json::Result<Request> {
        let mut value = serde_json::to_value(request)?;
        for field in value.as_object_mut().into_iter().flat_map(|kinds| kinds.values_mut()) {
            for (name, value) in field.as_object_mut().into_iter().flatten() {
                if let serde_json::Value::String(text) = value
                    && name != "text"
                {
                    *text = without_controls(text);
                }
            }
        }
        serde_json::from_value(value)
    };
    clean(&request).unwrap_or(request)
}

/// One line of at most 1000 characters.
fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}

/// The answer of a device. That a node is off which is heard is no answer that could be relied on.
fn show_test(node: &str, is_heard: bool, test: fencing::FenceTest) -> FenceTestResult {
    let (ok, answer) = match test.outcome {
        model::FenceOutcome::Done => (true, "done".to_owned()),
        model::FenceOutcome::Status(model::FenceStatus::On) => (true, "on".to_owned()),
        model::FenceOutcome::Status(model::FenceStatus::Off) if is_heard => {
            (false, format!("reads off, but {node} is heard: its plug is another machine's, or the device lies"))
        }
        model::FenceOutcome::Status(model::FenceStatus::Off) => (true, "off".to_owned()),
        model::FenceOutcome::Failed { reason } => (false, reason),
    };
    FenceTestResult { node: node.to_owned(), device: test.device.to_string(), ok, answer, took_ms: test.took_ms }
}

/// Asks the node machine and waits for its answer.
pub async fn ask_node(hub: &Arc<Hub>, request: node::Request, actor: String) -> Result<Answer, Refused> {
    let (answer, wait) = oneshot::channel();
    hub.tell(Work::Ask { request, actor, answer });
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Refused::new(
            RefusedCode::TimedOut,
            "the cluster did not agree in time; the request may or may not be carried out",
            "`cardea status` shows what became of it",
        )),
    }
}

/// A picture of the node and when it was taken.
pub struct Picture {
    /// The picture.
    pub view: View,
    /// When the node last knew that it belonged to a majority, on this machine's time line.
    pub quorate_at: model::Instant,
}

impl Picture {
    /// How old the picture may be, in milliseconds: nothing is certain without a majority.
    pub fn age_ms(&self) -> u64 {
        if self.view.is_quorate {
            return 0;
        }
        u64::try_from(host::identity::now().since(self.quorate_at).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_do_not_steer_terminals_and_files_stay_as_they_are() {
        let stop = Request::Stop { unit: "db".to_owned(), reason: "why\u{1b}[2J\nnot".to_owned() };
        let cleaned = Request::Stop { unit: "db".to_owned(), reason: "why [2J not".to_owned() };
        assert_eq!(shown_safely(stop), cleaned);
        let apply =
            Request::Apply { text: "a\nb\t".to_owned(), expected_version: None, reason: "x".to_owned(), force: false };
        assert_eq!(shown_safely(apply.clone()), apply);
    }
}
