//! Which instances lead?
//!
//! Agents tell how fit each instance is in attributes of its node, `master-NAME`; locations and ties for the role are
//! added to that.

use std::cmp::Ordering;

use model::situation::{NoQuorum, Role, Score};

use super::Assigner;
use super::colocation::Side;
use super::table::Source;
use crate::world::{NodeIx, RscIx};

impl Assigner<'_, '_> {
    /// Lets the fitness of instances count for where they go.
    pub(super) fn add_promotion_scores(&mut self, clone: RscIx) {
        if std::mem::replace(&mut self.has_promotion_scores[clone.0 as usize], true) {
            return;
        }
        let world = self.world;
        for child in &world.rsc(clone).children {
            for node in world.node_ixs() {
                if self.score(*child, node).is_none() || !self.is_usable(node) {
                    continue;
                }
                let score = self.promotion_score(*child, node).unwrap_or_default();
                if score > Score::ZERO {
                    self.tables[child.0 as usize].add(node, score, Source::Fitness);
                }
                if score > self.priority.get(*child).max(Score::ZERO) {
                    self.priority.begin(*child, score, Source::Fitness);
                }
            }
        }
    }

    /// How fit an instance is on a node; none if nothing is said.
    pub(super) fn promotion_score(&self, rsc: RscIx, node: NodeIx) -> Option<Score> {
        let world = self.world;
        let it = world.rsc(rsc);
        if !it.is_primitive() {
            let scores: Vec<Score> =
                it.children.iter().filter_map(|child| self.promotion_score(*child, node)).collect();
            return (!scores.is_empty()).then(|| scores.into_iter().fold(Score::ZERO, |sum, score| sum + score));
        }
        if !self.does_promotion_score_count(rsc, node) {
            return None;
        }
        // What was not decided by a colocation: the score of the node before instances were spread does not matter.
        let attributes = &world.node(self.attribute_bearer(rsc, node)?).facts.attributes;
        let names = [it.reported_as.unwrap_or(&*it.id), it.name];
        let said = names.iter().find_map(|name| attributes.get(&format!("master-{name}")))?;
        Some(parse_score(said))
    }

    /// The node whose attributes count for a resource: a guest, or what hosts it.
    fn attribute_bearer(&self, rsc: RscIx, node: NodeIx) -> Option<NodeIx> {
        let world = self.world;
        let container = world.node(node).container().filter(|_| world.rsc(rsc).meta.uses_host_attributes);
        match container {
            None => Some(node),
            Some(container) if self.is_assigned[rsc.0 as usize] => self.node_of(container),
            Some(container) => world.rsc(container).active_on.first().copied(),
        }
    }

    fn does_promotion_score_count(&self, rsc: RscIx, node: NodeIx) -> bool {
        let world = self.world;
        let it = world.rsc(rsc);
        let is_allowed = self.score(rsc, node).is_some_and(|score| self.allows(score));
        if it.active_on.contains(&node) {
            return true;
        }
        let top = world.top(rsc);
        let siblings: Vec<RscIx> =
            world.primitives(top).into_iter().filter(|other| world.rsc(*other).name == it.name).collect();
        if !it.is_unique {
            let is_other_active = siblings.iter().any(|other| world.rsc(*other).active_on.contains(&node));
            if !is_other_active && siblings.iter().any(|other| world.rsc(*other).known_on.contains(&node)) {
                return is_allowed;
            }
            if is_other_active {
                return false;
            }
        } else if it.known_on.contains(&node) {
            return is_allowed;
        }
        it.known_on.is_empty() && is_allowed
    }

    /// Gives every instance its role.
    pub(super) fn choose_promoted(&mut self, clone: RscIx) {
        let world = self.world;
        let meta = world.rsc(clone).meta;
        let instances = world.rsc(clone).children.clone();
        for instance in &instances {
            let Some(node) = self.node_of(*instance) else { continue };
            let at = instance.0 as usize;
            let (score, source) = match self.goal_of(*instance) {
                Role::Unknown | Role::Started => match self.promotion_score(*instance, node) {
                    Some(score) => (score, Source::Fitness),
                    None if world.situation.options.points_only_rank => (Score::MUST_NOT, Source::NoFitness),
                    None => (Score::of(-1), Source::NoFitness),
                },
                Role::Unpromoted | Role::Stopped => (Score::MUST_NOT, Source::RoleLimit),
                Role::Promoted => (Score::MUST, Source::RoleLimit),
            };
            self.priority.begin(*instance, score, source);
            self.add_role_locations(clone, *instance, node);
            let mut ties = self.ties_of(*instance, Side::Follows);
            if let Some(bundle) = world.rsc(clone).parent {
                // What ties the bundle counts for what is in it only here.
                ties.extend(self.ties_of(bundle, Side::Follows));
            }
            for tie in ties {
                let tie = self.ties[tie as usize].clone();
                if tie.dependent_role.is_some_and(|role| role >= Role::Unpromoted) {
                    if !self.is_assigned[tie.primary.0 as usize] {
                        self.assign(tie.primary, None);
                    }
                    self.obey(*instance, tie.primary, &tie);
                }
            }
            self.promotion[at] = self.priority.get(*instance);
        }
        self.rank(clone, &instances);
        let mut sorted = instances;
        sorted.sort_by(|a, b| self.compare_promotable(*a, *b));
        let mut counts = vec![0_u32; world.nodes.len()];
        let mut promoted = 0;
        for instance in sorted {
            let node = (promoted < meta.promoted_max)
                .then(|| self.place_to_lead(clone, instance, &counts, meta.promoted_node_max))
                .flatten();
            match node {
                Some(node) => {
                    counts[node.0 as usize] += 1;
                    promoted += 1;
                    self.set_goal(instance, Role::Promoted);
                }
                None => self.set_goal(instance, Role::Unpromoted),
            }
        }
    }

    fn add_role_locations(&mut self, clone: RscIx, instance: RscIx, node: NodeIx) {
        let world = self.world;
        let bundle = world.rsc(clone).parent;
        for (at, location) in (0_u32..).zip(&world.situation.locations) {
            if location.role != Some(Role::Promoted) {
                continue;
            }
            let Some(rsc) = world.find(location.resource.as_str()) else { continue };
            // What is said of a bundle names the nodes in its containers, not their hosts.
            if rsc != clone && rsc != instance && Some(rsc) != bundle {
                continue;
            }
            for (name, score) in &location.scores {
                if name.as_str() == world.node(node).name {
                    self.priority.add(instance, *score, Source::Location(at));
                }
            }
        }
    }

    /// What decides between instances: their fitness on top of what the clone has on their nodes.
    fn rank(&mut self, clone: RscIx, instances: &[RscIx]) {
        let world = self.world;
        for instance in instances {
            let at = instance.0 as usize;
            if let Some(node) = self.node_of(*instance)
                && self.allows(self.promotion[at])
            {
                let score = self.promotion[at];
                self.tables[clone.0 as usize].add(node, score, Source::Fitness);
            }
        }
        self.hear_promotion_wishes(clone);
        let lacks_ticket = world.situation.ticket_rules.iter().any(|rule| {
            let ticket = world.situation.tickets.get(&rule.ticket).copied().unwrap_or_default();
            rule.role == Some(Role::Promoted)
                && world.find(rule.resource.as_str()) == Some(clone)
                && (!ticket.is_granted || ticket.is_standby)
        });
        if lacks_ticket {
            self.tables[clone.0 as usize].rule_out_all(Source::Ticket);
        }
        for instance in instances {
            let at = instance.0 as usize;
            let is_managed = world.primitives(*instance).iter().all(|rsc| world.rsc(*rsc).is_managed);
            let Some(node) = self.node_of(*instance) else {
                self.promotion[at] = Score::MUST_NOT;
                continue;
            };
            if !is_managed && self.current_role(*instance) == Role::Promoted {
                self.promotion[at] = Score::MUST;
            } else if self.allows(self.promotion[at]) {
                self.promotion[at] = self.score(clone, node).unwrap_or(Score::MUST_NOT);
            }
        }
    }

    fn current_role(&self, instance: RscIx) -> Role {
        self.world.primitives(instance).iter().map(|rsc| self.world.rsc(*rsc).role).max().unwrap_or_default()
    }

    fn compare_promotable(&self, a: RscIx, b: RscIx) -> Ordering {
        self.promotion[b.0 as usize]
            .cmp(&self.promotion[a.0 as usize])
            .then_with(|| self.current_role(b).cmp(&self.current_role(a)))
            .then_with(|| self.compare_instances(a, b))
    }

    fn place_to_lead(&self, clone: RscIx, instance: RscIx, counts: &[u32], per_node_max: u32) -> Option<NodeIx> {
        let world = self.world;
        let it = world.rsc(instance);
        if !it.is_primitive() {
            // All members, or none.
            if it.children.iter().any(|child| self.node_of(*child).is_none()) {
                return None;
            }
        }
        let node = self.node_of(instance)?;
        let is_managed = world.primitives(instance).iter().all(|rsc| world.rsc(*rsc).is_managed);
        if !is_managed {
            return (self.current_role(instance) == Role::Promoted).then_some(node);
        }
        if !self.allows(self.promotion[instance.0 as usize]) || !self.is_usable_with_host(node) {
            return None;
        }
        let options = &world.situation.options;
        if !options.has_quorum && options.no_quorum == NoQuorum::Freeze && self.current_role(instance) < Role::Promoted
        {
            return None;
        }
        self.score(clone, node)?;
        (counts[node.0 as usize] < per_node_max).then_some(node)
    }

    fn set_goal(&mut self, instance: RscIx, goal: Role) {
        for rsc in self.world.primitives(instance) {
            let at = rsc.0 as usize;
            self.goal[at] = if self.node[at].is_none() {
                Role::Stopped
            } else if goal == Role::Promoted && matches!(self.goal[at], Role::Unpromoted | Role::Stopped) {
                self.goal[at]
            } else {
                goal
            };
        }
        self.goal[instance.0 as usize] = if self.node_of(instance).is_some() { goal } else { Role::Stopped };
    }
}

/// A score as an attribute holds it.
fn parse_score(text: &str) -> Score {
    match text {
        "INFINITY" | "+INFINITY" => Score::MUST,
        "-INFINITY" => Score::MUST_NOT,
        _ => {
            let sign = usize::from(text.starts_with(['-', '+']));
            let end = text[sign..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| end + sign);
            Score::of(text[..end].parse().unwrap_or(0))
        }
    }
}
