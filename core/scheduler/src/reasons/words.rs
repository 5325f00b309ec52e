//! Reasons as sentences: the only place where they become words.
//!
//! What speaks of a node is the rest of a sentence that begins with the node's name.

use model::situation::{Role, Score};

use super::{Contribution, Decider, Ground, HandsOff, Lead, NodeWeight, Reasons, Weighing};

/// Excluded nodes that a decision names one by one.
const NAMED_AT_MOST: usize = 3;

/// What is decided about a primitive, and why.
pub(super) fn decision(name: &str, weighing: &Weighing, reasons: &Reasons) -> String {
    let words = Words { name, weighing, reasons };
    let current = weighing.current.join(", ");
    let chosen = weighing.node.as_deref();
    let stays = chosen.is_some_and(|node| weighing.current.len() == 1 && weighing.current[0] == node);
    let mut told: Vec<&str> = Vec::new();
    let mut parts: Vec<String> = Vec::new();
    match (chosen, weighing.current.is_empty()) {
        (Some(node), _) if stays => parts.push(format!("{name} stays on {node}: {}", words.why(node))),
        (Some(node), true) => parts.push(format!("{name} goes to {node}: {}", words.why(node))),
        (Some(node), false) => {
            let left: Vec<&NodeWeight> = weighing
                .nodes
                .iter()
                .filter(|row| row.node != node && weighing.current.contains(&row.node) && !row.can_run)
                .collect();
            told.extend(left.iter().map(|row| row.node.as_str()));
            let mut why: Vec<String> = left.iter().map(|row| format!("{} {}", row.node, words.obstacle(row))).collect();
            if why.is_empty() || !matches!(weighing.decided_by, Decider::OnlyOne) {
                why.push(words.why(node));
            }
            parts.push(format!("{name} moves from {current} to {node}: {}", why.join("; ")));
        }
        (None, true) => parts.push(format!("{name} runs nowhere: {}", words.why_nowhere())),
        (None, false) => parts.push(format!("{name} stops on {current}: {}", words.why_nowhere())),
    }
    if words.is_about_all_nodes() {
        return parts.remove(0);
    }
    let out: Vec<&NodeWeight> = weighing
        .nodes
        .iter()
        .filter(|row| !row.can_run && Some(row.node.as_str()) != chosen && !told.contains(&row.node.as_str()))
        .filter(|row| !words.goes_without_saying(row))
        .collect();
    for row in out.iter().take(NAMED_AT_MOST) {
        parts.push(format!("{} is excluded: it {}", row.node, words.obstacle(row)));
    }
    match out.len().saturating_sub(NAMED_AT_MOST) {
        0 => {}
        1 => parts.push("one more node is excluded".to_owned()),
        more => parts.push(format!("{more} more nodes are excluded")),
    }
    parts.join("; ")
}

/// Do other instances take up the nodes that could run it?
pub(super) fn is_crowded_out(weighing: &Weighing) -> bool {
    weighing.node.is_none()
        && weighing
            .nodes
            .iter()
            .flat_map(|row| &row.contributions)
            .any(|one| matches!(one.ground, Ground::FullOfInstances | Ground::EnoughInstances))
}

/// What speaks for and against a node, each the rest of a sentence that begins with its name.
pub(super) fn because(name: &str, weighing: &Weighing, row: &NodeWeight, reasons: &Reasons) -> Vec<String> {
    let words = Words { name, weighing, reasons };
    let counts = |one: &&Contribution| if row.can_run { true } else { one.score.is_must_not() };
    let mut said: Vec<String> = Vec::new();
    for one in row.contributions.iter().filter(counts) {
        let text = words.ground(row, one);
        if !said.contains(&text) {
            said.push(text);
        }
    }
    if said.is_empty() && row.can_run {
        said.push(format!("can run {name}"));
    } else if said.is_empty() {
        said.push(words.too_much(row));
    }
    said
}

/// How something is that others must be with: "is", or in its role.
fn is_in_role(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Promoted) => "leads",
        Some(Role::Unpromoted) => "follows",
        Some(Role::Unknown | Role::Stopped | Role::Started) | None => "is",
    }
}

fn nowhere_in_role(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Promoted) => "leads nowhere",
        Some(Role::Unpromoted) => "follows nowhere",
        Some(Role::Unknown | Role::Stopped | Role::Started) | None => "runs nowhere",
    }
}

/// Why an instance leads, or does not.
pub(super) fn lead_in_words(name: &str, weighing: &Weighing, lead: &Lead, reasons: &Reasons) -> Option<String> {
    let node = weighing.node.as_deref()?;
    let words = Words { name, weighing, reasons };
    let row = weighing.nodes.iter().find(|row| row.node == node)?;
    let grounds: Vec<String> = lead
        .contributions
        .iter()
        .filter(|one| one.score != Score::ZERO && (one.score > Score::ZERO) == lead.leads)
        .map(|one| words.ground_to_lead(row, one))
        .take(NAMED_AT_MOST)
        .collect();
    let verb = if lead.leads { "leads" } else { "follows" };
    Some(if grounds.is_empty() {
        let others = if lead.leads { "no other is fitter" } else { "others are fitter, or enough lead" };
        format!("{name} {verb} on {node}: {others}")
    } else {
        format!("{name} {verb} on {node}: {node} {}", grounds.join(", "))
    })
}

struct Words<'r> {
    /// What it is called in the sentence.
    name: &'r str,
    weighing: &'r Weighing,
    reasons: &'r Reasons,
}

impl Words<'_> {
    /// Why this node.
    fn why(&self, node: &str) -> String {
        let weighing = self.weighing;
        let runs_there = weighing.current.iter().any(|current| current == node);
        match weighing.decided_by {
            Decider::Unmanaged => self.why_hands_off(),
            Decider::StopsAll => "everything is to stop".to_owned(),
            Decider::LacksPartner => "what it must be with is not there".to_owned(),
            Decider::NoNode => "no node can run it".to_owned(),
            Decider::OnlyOne => match self.leader() {
                Some((leader, role)) => format!("that is where {leader} {}", is_in_role(role)),
                None if weighing.nodes.len() == 1 => "it is the only node".to_owned(),
                None => "no other node can run it".to_owned(),
            },
            Decider::Score => self.why_best(node, runs_there),
            Decider::Stays => "it runs there, and nothing speaks more for another node".to_owned(),
            Decider::Firm => self.why_firm(node),
            Decider::Asked => match weighing.part_of.first() {
                Some(whole) => format!("that is its place in {whole}"),
                None => "a live migration to it is under way".to_owned(),
            },
            Decider::MostRoom => format!("all that belongs together fits nowhere, and {node} has the most room"),
            Decider::MoreRoom => format!("{node} has the most room left"),
            Decider::FewerResources => {
                let own = self.row(node).map_or(0, |row| row.resources_before);
                match self.equals(node).into_iter().min_by_key(|row| row.resources_before) {
                    Some(rival) => format!(
                        "{node} had fewer resources ({own}) than {} ({}), and nothing else tells them apart",
                        rival.node, rival.resources_before
                    ),
                    None => format!("{node} had the fewest resources"),
                }
            }
            Decider::Name => {
                let equals: Vec<&str> = self.equals(node).iter().map(|row| row.node.as_str()).collect();
                match equals.len() {
                    0 => format!("{node} comes first by name"),
                    1..=NAMED_AT_MOST => {
                        format!("nothing tells {node} from {}, and {node} comes first by name", equals.join(", "))
                    }
                    more => format!("nothing tells {node} from {more} others, and {node} comes first by name"),
                }
            }
        }
    }

    /// Why nothing is done about it.
    fn why_hands_off(&self) -> String {
        match &self.weighing.hands_off {
            None | Some(HandsOff::Unmanaged) => "it is not managed, and left as it is".to_owned(),
            Some(HandsOff::Maintenance) => "it is in maintenance, and left as it is".to_owned(),
            Some(HandsOff::Failed(nodes)) => {
                let nodes = nodes.join(" and ");
                format!("it failed on {nodes} and is blocked there (on-fail=block) until the failure is cleaned up")
            }
            Some(HandsOff::ActiveOnSeveral { resource, nodes }) => {
                let (who, nodes) = (self.it(resource), nodes.join(" and "));
                format!(
                    "{who} is active on {nodes}, and that blocks it (multiple-active=block) until one is stopped by hand"
                )
            }
            Some(HandsOff::Frozen) => "its ticket is not there, and it is frozen as it is".to_owned(),
        }
    }

    /// How another resource is called in a sentence about this one.
    fn it<'n>(&self, resource: &'n str) -> &'n str {
        if self.called(resource) == self.name { "it" } else { resource }
    }

    /// Why it stays although more speaks for another node.
    fn why_firm(&self, node: &str) -> String {
        let rival = self.open().into_iter().filter(|other| other.node != node).max_by_key(|other| other.score);
        let rival = rival.and_then(|rival| {
            let best = rival.contributions.iter().filter(|one| one.score > Score::ZERO && one.ground != Ground::Base);
            Some(format!("{} {}", rival.node, self.ground(rival, best.max_by_key(|one| one.score)?)))
        });
        let why = "it is there, and points alone move it nowhere (`failback = false`)";
        rival.map_or_else(|| why.to_owned(), |rival| format!("{why}, although {rival}"))
    }

    /// Why more speaks for this node than for any other.
    fn why_best(&self, node: &str, runs_there: bool) -> String {
        let Some(row) = self.row(node) else { return "most speaks for it".to_owned() };
        let (own, others): (Vec<&Contribution>, Vec<&Contribution>) = row
            .contributions
            .iter()
            .filter(|one| one.score > Score::ZERO && one.ground != Ground::Base)
            .partition(|one| matches!(one.ground, Ground::Stickiness { .. }));
        let stickiness = own.iter().fold(Score::ZERO, |sum, one| sum + one.score);
        let rival = self.open().into_iter().filter(|other| other.node != node).max_by_key(|other| other.score);
        let decides = |rival: &NodeWeight| rival.score + stickiness >= row.score;
        if runs_there && stickiness > Score::ZERO && (others.is_empty() || rival.is_some_and(decides)) {
            return "it runs there and nothing prefers another node more than its stickiness".to_owned();
        }
        let mut others = others;
        others.sort_by_key(|one| std::cmp::Reverse(one.score));
        let mut said: Vec<String> = Vec::new();
        for one in others {
            let text = self.ground(row, one);
            if !said.contains(&text) && said.len() < 2 {
                said.push(text);
            }
        }
        if !said.is_empty() {
            let over = match self.current_row().filter(|current| current.can_run && current.node != node) {
                Some(_) if !runs_there => ", which counts more than staying",
                None if runs_there && stickiness > Score::ZERO => ", and it runs there",
                Some(_) | None => "",
            };
            return format!("{node} {}{over}", said.join(" and "));
        }
        let against = rival.and_then(|rival| {
            let worst = rival.contributions.iter().filter(|one| one.score < Score::ZERO).min_by_key(|one| one.score)?;
            Some(format!("{} {}", rival.node, self.ground(rival, worst)))
        });
        against.unwrap_or_else(|| "most speaks for it".to_owned())
    }

    fn why_nowhere(&self) -> String {
        match self.weighing.decided_by {
            Decider::StopsAll | Decider::LacksPartner | Decider::Unmanaged => self.why(""),
            _ if self.is_about_all_nodes() => self.shared_obstacle(),
            _ if self.is_crowded_out() => {
                format!("every node that may run {} has as many instances as it may have", self.name)
            }
            _ => "no node can run it".to_owned(),
        }
    }

    /// Do other instances take up every node that could run it?
    fn is_crowded_out(&self) -> bool {
        is_crowded_out(self.weighing)
    }

    /// Does the same keep it off every node?
    fn is_about_all_nodes(&self) -> bool {
        if self.weighing.node.is_some() {
            return matches!(self.weighing.decided_by, Decider::Unmanaged);
        }
        !matches!(self.weighing.decided_by, Decider::NoNode) || !self.shared_obstacle().is_empty()
    }

    /// What keeps it off every node alike.
    fn shared_obstacle(&self) -> String {
        let everywhere = |ground: &Ground| {
            !self.weighing.nodes.is_empty()
                && self
                    .weighing
                    .nodes
                    .iter()
                    .all(|row| row.contributions.iter().any(|one| one.score.is_must_not() && one.ground == *ground))
        };
        let first = self.weighing.nodes.first();
        let shared = first.into_iter().flat_map(|row| &row.contributions).find(|one| {
            one.score.is_must_not()
                && !matches!(one.ground, Ground::Node { .. } | Ground::Failures { .. } | Ground::Capacity { .. })
                && everywhere(&one.ground)
        });
        match shared.map(|one| &one.ground) {
            None => String::new(),
            Some(Ground::Disabled) => "it is disabled".to_owned(),
            Some(Ground::Happened { resource, what }) if resource == self.name => what.clone(),
            Some(Ground::Happened { resource, what }) => format!("{resource}: {what}"),
            Some(Ground::With { resource, role, .. } | Ground::WithNothing { resource, role, .. }) => {
                let why = self.why_none_leads(resource, *role).map(|why| format!(" ({why})")).unwrap_or_default();
                format!("it must be with {resource}, which {}{why}", nowhere_in_role(*role))
            }
            Some(Ground::Wish { resource, .. }) => format!("{resource}, which must be with it, can run nowhere"),
            Some(Ground::NotAllowed) => "nothing says where it may run, and nothing runs unasked".to_owned(),
            Some(Ground::EnoughInstances) => "as many instances run as are wanted".to_owned(),
            Some(Ground::Removed) => "it left the configuration".to_owned(),
            Some(Ground::Location { id, why: None }) => format!("{id} forbids it everywhere"),
            Some(_) => "no node can run it".to_owned(),
        }
    }

    /// What keeps every copy of something from leading, where that is what is asked.
    fn why_none_leads(&self, resource: &str, role: Option<Role>) -> Option<String> {
        if role != Some(Role::Promoted) {
            return None;
        }
        let is_copy = |weighing: &Weighing| {
            weighing.resource == resource || weighing.part_of.iter().any(|whole| whole == resource)
        };
        let mut said: Vec<String> = Vec::new();
        for weighing in self.reasons.weighings.values().filter(|weighing| is_copy(weighing)) {
            let Some(lead) = &weighing.lead else { continue };
            let told = lead_in_words(&weighing.resource, weighing, lead, self.reasons);
            said.extend(told.filter(|told| !said.contains(told)));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// A contribution to who leads: the rest of a sentence that begins with the node's name.
    fn ground_to_lead(&self, row: &NodeWeight, one: &Contribution) -> String {
        match &one.ground {
            Ground::Location { id, why: None } if one.score.is_must_not() => {
                format!("must not have {} leading ({id})", self.name)
            }
            Ground::Location { id, why: None } if one.score.is_must() => {
                format!("must have {} leading ({id})", self.name)
            }
            _ => self.ground(row, one),
        }
    }

    fn row(&self, node: &str) -> Option<&NodeWeight> {
        self.weighing.nodes.iter().find(|row| row.node == node)
    }

    fn current_row(&self) -> Option<&NodeWeight> {
        self.row(self.weighing.current.first()?)
    }

    fn open(&self) -> Vec<&NodeWeight> {
        self.weighing.nodes.iter().filter(|row| row.can_run).collect()
    }

    /// Other nodes with the same score.
    fn equals(&self, node: &str) -> Vec<&NodeWeight> {
        let score = self.row(node).map(|row| row.score);
        self.open().into_iter().filter(|row| row.node != node && Some(row.score) == score).collect()
    }

    /// What it must be with, where that alone leaves one node.
    fn leader(&self) -> Option<(&str, Option<Role>)> {
        let mut leader: Option<(&str, Option<Role>)> = None;
        for row in self.weighing.nodes.iter().filter(|row| !row.can_run) {
            let with = row.contributions.iter().find_map(|one| match &one.ground {
                Ground::With { resource, role, pull, .. } if pull.is_must() && one.score.is_must_not() => {
                    Some((resource.as_str(), *role))
                }
                _ => None,
            });
            if with.is_none() || leader.is_some_and(|known| Some(known) != with) {
                return None;
            }
            leader = with;
        }
        leader
    }

    /// That it is kept off there follows from what it is part of, or with.
    fn goes_without_saying(&self, row: &NodeWeight) -> bool {
        let first = row.contributions.iter().find(|one| one.score.is_must_not());
        first.is_some_and(|one| match &one.ground {
            Ground::FullOfInstances | Ground::EnoughInstances | Ground::NotAllowed => true,
            Ground::With { resource, role, .. } => self.leader() == Some((resource.as_str(), *role)),
            _ => false,
        })
    }

    /// What keeps it off a node: the rest of a sentence that begins with the node's name.
    fn obstacle(&self, row: &NodeWeight) -> String {
        match row.contributions.iter().find(|one| one.score.is_must_not()) {
            Some(one) => self.ground(row, one),
            None => self.too_much(row),
        }
    }

    /// Nothing forbids it on the node alone, but what speaks against it outweighs the rest.
    fn too_much(&self, row: &NodeWeight) -> String {
        let against = row.contributions.iter().filter(|one| one.score < Score::ZERO);
        let said: Vec<String> = against.map(|one| self.ground(row, one)).collect();
        format!("has more against {} than for it ({} in all): it {}", self.name, row.score, said.join(", "))
    }

    fn called<'n>(&'n self, resource: &'n str) -> &'n str {
        let is_it = resource == self.weighing.resource
            || resource.rsplit_once(':').is_some_and(|(base, _)| base == self.weighing.resource);
        if is_it { self.name } else { resource }
    }

    /// A contribution: the rest of a sentence that begins with the node's name.
    fn ground(&self, row: &NodeWeight, one: &Contribution) -> String {
        let (name, score) = (self.name, one.score);
        let by = |id: &Option<String>| match (id, score.is_mandatory()) {
            (Some(id), true) => format!(" ({id})"),
            (Some(id), false) => format!(" ({id}, {score})"),
            (None, true) => String::new(),
            (None, false) => format!(" ({score})"),
        };
        match &one.ground {
            Ground::Base => format!("offers {score} to every resource"),
            Ground::Health if score.is_must_not() => "is not healthy".to_owned(),
            Ground::Health => format!("has a health that counts {score}"),
            Ground::Location { why: Some(why), .. } => match score.is_mandatory() {
                true => why.clone(),
                false => format!("{why} ({score})"),
            },
            Ground::Location { id, why: None } => match score {
                Score::MUST_NOT => format!("must not run {name} ({id})"),
                Score::MUST => format!("must run {name} ({id})"),
                score if score > Score::ZERO => format!("is preferred ({id}, {score})"),
                score => format!("is avoided ({id}, {score})"),
            },
            Ground::Happened { resource, what } => {
                let verb = if score > Score::ZERO { "keeps" } else { "cannot have" };
                match self.called(resource) == name {
                    true => format!("{verb} {name}: {what}"),
                    false => format!("{verb} {name}: {resource}: {what}"),
                }
            }
            Ground::WaitsFor { node } => format!("is not {node}, which {name} waits for until it is back"),
            Ground::Stickiness { resource } => format!("runs {} already ({score} for staying)", self.called(resource)),
            Ground::Failures { resource, count, limit } => {
                let resource = self.called(resource);
                match *count {
                    count if count >= i64::from(Score::MUST.value()) => {
                        format!("saw {resource} fail in a way that rules it out")
                    }
                    1 => format!("saw {resource} fail once, and may see it fail no more"),
                    count => format!("saw {resource} fail {count} times, and the limit is {limit}"),
                }
            }
            Ground::NotNamed => format!("is not among the nodes that {name} may run on"),
            Ground::NotAllowed => format!("is not allowed for {name}"),
            Ground::RemoteNode => format!("is a remote node or guest, which cannot have {name}"),
            Ground::Disabled => format!("does not get {name}, which is disabled"),
            Ground::With { resource, on, role, pull, id } => {
                let place = if on.is_empty() { String::new() } else { format!(" (on {})", on.join(", ")) };
                let is = is_in_role(*role);
                let having = match role {
                    Some(Role::Promoted) => " leading",
                    Some(Role::Unpromoted) => " following",
                    Some(Role::Unknown | Role::Stopped | Role::Started) | None => "",
                };
                match (pull.is_must(), *pull > Score::ZERO, score > Score::ZERO) {
                    (true, _, false) if on.is_empty() => {
                        format!("has no {resource}{having}, which {name} must be with{}", by(id))
                    }
                    (true, _, false) => {
                        format!("is not where {resource} {is}{place}, which {name} must be with{}", by(id))
                    }
                    (_, true, _) => format!("has {resource}{having}, which {name} goes with{}", by(id)),
                    (_, false, _) => format!("has {resource}{having}, which {name} keeps away from{}", by(id)),
                }
            }
            Ground::WithNothing { resource, role, id } => {
                let nowhere = nowhere_in_role(*role);
                format!("cannot have {resource}, which {name} goes with and which {nowhere}{}", by(id))
            }
            Ground::Wish { resource, id } => {
                let detail = self.detail(resource, &row.node).map(|why| format!(": it {why}")).unwrap_or_default();
                match score {
                    Score::MUST_NOT => format!("cannot have {resource}, which must be with {name}{}{detail}", by(id)),
                    score if score > Score::ZERO => format!("suits {resource}, which goes with {name}{}", by(id)),
                    _ => format!("does not suit {resource}, which goes with {name}{}", by(id)),
                }
            }
            Ground::WishLimit => "is not ruled out by what others wish".to_owned(),
            Ground::Capacity { what: Some(what), needed, left } => {
                format!("has too little {what}: {needed} needed, {left} left")
            }
            Ground::Capacity { what: None, .. } => format!("has too little room for {name}"),
            Ground::Fitness => format!("is where the agent finds {name} fit to lead ({score})"),
            Ground::NoFitness => format!("has no word of the agent that {name} may lead"),
            Ground::RoleLimit => match score > Score::ZERO {
                true => format!("has {name} leading as it is told to"),
                false => format!("has {name} told not to lead"),
            },
            Ground::Ticket => format!("lacks the ticket that {name} needs to lead"),
            Ground::EnoughInstances => format!("is not needed: as many instances of {name} run as are wanted"),
            Ground::FullOfInstances => format!("has as many instances of {name} as it may have"),
            Ground::PartOf { resource } => format!("may not have {resource}"),
            Ground::Removed => format!("does not keep {name}, which left the configuration or is one too many"),
            Ground::Node { is } => is.clone(),
            Ground::Container => match score {
                Score::MUST_NOT => format!("does not lead to the container of {name}"),
                _ => format!("is the container of {name}"),
            },
        }
    }

    /// What keeps another resource off a node by itself.
    fn detail(&self, resource: &str, node: &str) -> Option<String> {
        let (id, weighing) = self
            .reasons
            .weighings
            .iter()
            .filter(|(id, weighing)| *id == resource || weighing.part_of.iter().any(|whole| whole == resource))
            .min_by_key(|(_, weighing)| weighing.place)?;
        let row = weighing.nodes.iter().find(|row| row.node == node)?;
        let own = row.contributions.iter().find(|one| {
            one.score.is_must_not()
                && !matches!(one.ground, Ground::With { .. } | Ground::WithNothing { .. } | Ground::Wish { .. })
        })?;
        let words = Words { name: id, weighing, reasons: self.reasons };
        Some(words.ground(row, own))
    }
}
