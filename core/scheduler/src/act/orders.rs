//! What comes before what? What resources bring along by being what they are, and what the operator wants.

use std::collections::BTreeMap;

use model::situation::{OrderAction, OrderKind, OrderSide, Role};

use super::graph::{ActionIx, Kind, Phase, Task};
use super::{End, Ordering, Planner, done, notify, task_of};
use crate::world::{RscIx, World};

/// An opposite: what is done in reverse.
fn inverse(action: OrderAction) -> OrderAction {
    match action {
        OrderAction::Start => OrderAction::Stop,
        OrderAction::Stop => OrderAction::Start,
        OrderAction::Promote => OrderAction::Demote,
        OrderAction::Demote => OrderAction::Promote,
    }
}

impl<'a> Planner<'_, 'a> {
    pub(super) fn before(&mut self, first: (RscIx, Task<'a>), then: (RscIx, Task<'a>), kind: Kind) {
        self.orderings.push(Ordering { first: End::Of(first.0, first.1), then: End::Of(then.0, then.1), kind });
        self.order_migrations(first, then);
    }

    /// What every resource brings along.
    pub(super) fn add_builtin_orders(&mut self) {
        for top in self.world.tops.clone() {
            self.add_orders_of(top);
        }
    }

    fn add_orders_of(&mut self, rsc: RscIx) {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            self.add_orders_of_primitive(rsc);
        } else if it.is_group() {
            self.add_orders_of_group(rsc);
        } else if it.is_clone() {
            self.add_orders_of_clone(rsc);
        } else {
            self.add_orders_of_bundle(rsc);
        }
    }

    fn add_orders_of_primitive(&mut self, rsc: RscIx) {
        let world = self.world;
        let it = world.rsc(rsc);
        if !it.is_managed {
            return;
        }
        let restarts = Kind::ORDERED.with(Kind::THEN_FOLLOWS).with(Kind::RESTARTS);
        self.before((rsc, Task::Stop), (rsc, Task::Start), restarts);
        let is_promotable = world.clone_of(rsc).is_some_and(|clone| world.rsc(clone).meta.is_promotable);
        if is_promotable || it.role > model::situation::Role::Unpromoted {
            self.before((rsc, Task::Demote), (rsc, Task::Stop), Kind::FIRST_FOLLOWS_IF_PROMOTED);
            self.before((rsc, Task::Start), (rsc, Task::Promote), Kind::BLOCKS);
        }
        self.order_loads(rsc);
        self.before((rsc, Task::Delete), (rsc, Task::Probe), Kind::SAME_NODE.with(Kind::CANCELS_FIRST));
        if let Some(container) = it.container.filter(|_| it.connects.is_some()) {
            // It may turn out that the container runs, and nothing has to be made anew.
            self.before((container, Task::Probe), (rsc, Task::Stop), Kind::ORDERED);
        }
        if let Some(container) = it.container
            && !self.is_inside_of_guest(rsc)
        {
            self.before((container, Task::Start), (rsc, Task::Start), Kind::THEN_FOLLOWS.with(Kind::BLOCKS));
            self.before((rsc, Task::Stop), (container, Task::Stop), Kind::FIRST_FOLLOWS);
        }
    }

    /// Does it run on a guest, and need its container by that?
    fn is_inside_of_guest(&self, rsc: RscIx) -> bool {
        let it = self.world.rsc(rsc);
        it.connects.is_none()
            && it.container.is_some_and(|container| {
                self.world.rsc(container).fillers.iter().any(|filler| self.world.rsc(*filler).connects.is_some())
            })
            && it
                .replica
                .is_none_or(|(bundle, number)| self.world.rsc(bundle).replicas[number as usize].inside == Some(rsc))
    }

    fn add_orders_of_group(&mut self, group: RscIx) {
        let world = self.world;
        let it = world.rsc(group);
        self.before((group, Task::Stopped), (group, Task::Start), Kind::ORDERED);
        self.before((group, Task::Start), (group, Task::Started), Kind::BLOCKS);
        self.before((group, Task::Stop), (group, Task::Stopped), Kind::BLOCKS);
        let is_promotable = world.clone_of(group).is_some_and(|clone| world.rsc(clone).meta.is_promotable);
        if is_promotable {
            self.before((group, Task::Demoted), (group, Task::Stop), Kind::ORDERED);
            self.before((group, Task::Started), (group, Task::Promote), Kind::BLOCKS);
        }
        let is_ordered = it.meta.is_ordered;
        let up_done = Kind::BLOCKS.with(Kind::THEN_FOLLOWS).with(Kind::SHOWS_THEN);
        let mut previous: Option<RscIx> = None;
        let mut last_active: Option<RscIx> = None;
        for member in it.children.clone() {
            self.add_orders_of(member);
            let is_active = !world.rsc(member).active_on.is_empty();
            // Down, the whole group goes with its first member.
            let (down, down_done) = if is_ordered && previous.is_none() {
                (Kind::SHOWS_FIRST.with(Kind::ORDERED), Kind::SHOWS_THEN.with(Kind::THEN_FOLLOWS))
            } else {
                (Kind::SHOWS_FIRST, Kind::SHOWS_THEN)
            };
            if is_promotable {
                self.before((group, Task::Demote), (member, Task::Demote), down);
                self.before((member, Task::Demote), (group, Task::Demoted), down_done);
                self.before((member, Task::Promote), (group, Task::Promoted), up_done);
                self.before((group, Task::Promote), (member, Task::Promote), Kind::SHOWS_FIRST);
            }
            self.before((group, Task::Stop), (member, Task::Stop), down);
            self.before((member, Task::Stop), (group, Task::Stopped), down_done);
            self.before((group, Task::Start), (member, Task::Start), Kind::SHOWS_FIRST);
            self.before((member, Task::Start), (group, Task::Started), up_done);
            if !is_ordered {
                let kind = Kind::ORDERED.with(Kind::BLOCKS);
                self.before((group, Task::Start), (member, Task::Start), kind);
                if is_promotable {
                    self.before((group, Task::Promote), (member, Task::Promote), kind);
                }
            } else if let Some(previous) = previous {
                let up = Kind::THEN_FOLLOWS.with(Kind::BLOCKS);
                self.before((previous, Task::Start), (member, Task::Start), up);
                self.before((member, Task::Stop), (previous, Task::Stop), Kind::ORDERED.with(Kind::RESTARTS));
                if is_active && world.rsc(previous).active_on.is_empty() {
                    let kind = Kind::FIRST_FOLLOWS.with(Kind::BLOCKS);
                    self.before((member, Task::Stop), (previous, Task::Start), kind);
                }
                if is_promotable {
                    self.before((previous, Task::Promote), (member, Task::Promote), up);
                    self.before((member, Task::Demote), (previous, Task::Demote), Kind::ORDERED);
                }
            }
            if is_active {
                if is_ordered
                    && let (Some(previous), Some(last)) = (previous, last_active)
                    && world.rsc(previous).active_on.is_empty()
                {
                    self.before((member, Task::Stop), (last, Task::Stop), Kind::ORDERED);
                }
                last_active = Some(member);
            }
            previous = Some(member);
        }
    }

    fn add_orders_of_clone(&mut self, clone: RscIx) {
        let world = self.world;
        let it = world.rsc(clone);
        self.before((clone, Task::Stopped), (clone, Task::Start), Kind::ORDERED);
        self.before((clone, Task::Start), (clone, Task::Started), Kind::BLOCKS);
        self.before((clone, Task::Stop), (clone, Task::Stopped), Kind::BLOCKS);
        if it.meta.is_promotable {
            self.before((clone, Task::Demoted), (clone, Task::Stop), Kind::ORDERED);
            self.before((clone, Task::Started), (clone, Task::Promote), Kind::BLOCKS);
        }
        let mut instances = it.children.clone();
        instances.sort_by_key(|instance| world.rsc(*instance).number);
        for (at, instance) in instances.iter().enumerate() {
            let instance = *instance;
            self.add_orders_of(instance);
            self.before((clone, Task::Start), (instance, Task::Start), Kind::BLOCKS.with(Kind::SHOWS_FIRST));
            self.before((instance, self.end_of(instance, Task::Start)), (clone, Task::Started), Kind::SHOWS_THEN);
            self.before((clone, Task::Stop), (instance, Task::Stop), Kind::SHOWS_FIRST);
            self.before((instance, self.end_of(instance, Task::Stop)), (clone, Task::Stopped), Kind::SHOWS_THEN);
            if it.meta.is_ordered {
                for later in &instances[at + 1..] {
                    let started = self.end_of(instance, Task::Start);
                    let stopped = self.end_of(*later, Task::Stop);
                    self.before((instance, started), (*later, Task::Start), Kind::ORDERED);
                    self.before((*later, stopped), (instance, Task::Stop), Kind::ORDERED);
                }
            }
        }
        if !it.meta.is_promotable {
            return;
        }
        let mut previous: Option<RscIx> = None;
        for instance in it.children.clone() {
            let demoted = self.end_of(instance, Task::Demote);
            let promoted = self.end_of(instance, Task::Promote);
            self.before((clone, Task::Demote), (instance, Task::Demote), Kind::SHOWS_FIRST);
            self.before((instance, demoted), (clone, Task::Demoted), Kind::SHOWS_THEN);
            self.before((clone, Task::Promote), (instance, Task::Promote), Kind::SHOWS_FIRST);
            self.before((instance, promoted), (clone, Task::Promoted), Kind::SHOWS_THEN);
            if it.meta.is_ordered
                && let Some(previous) = previous
            {
                self.before((previous, Task::Promote), (instance, Task::Promote), Kind::ORDERED);
                self.before((instance, Task::Demote), (previous, Task::Demote), Kind::ORDERED);
            }
            previous = Some(instance);
        }
        for (first, then) in [
            (Task::Stopped, Task::Start),
            (Task::Stopped, Task::Promote),
            (Task::Demoted, Task::Stop),
            (Task::Demoted, Task::Start),
            (Task::Demoted, Task::Promote),
            (Task::Started, Task::Promote),
        ] {
            self.before((clone, first), (clone, then), Kind::ORDERED);
        }
    }

    /// What says that a task of a resource is done: of collectives a marker.
    pub(super) fn end_of(&self, rsc: RscIx, task: Task<'a>) -> Task<'a> {
        if self.world.rsc(rsc).is_primitive() { task } else { done(task) }
    }

    /// What others wait for: of a clone that tells its instances, that all have been told.
    pub(super) fn report_of(&self, rsc: RscIx, task: Task<'a>) -> Task<'a> {
        match notify::noted(task) {
            Some(noted) if self.notifies(rsc) => Task::Notified(Phase::After, noted),
            Some(_) | None => self.end_of(rsc, task),
        }
    }

    fn add_orders_of_bundle(&mut self, bundle: RscIx) {
        let world = self.world;
        let it = world.rsc(bundle);
        let inside = it.children.last().copied().filter(|last| world.rsc(*last).is_clone());
        if let Some(inside) = inside {
            self.before((bundle, Task::Start), (inside, Task::Start), Kind::SHOWS_FIRST);
            self.before((inside, Task::Started), (bundle, Task::Started), Kind::SHOWS_THEN);
            self.before((bundle, Task::Stop), (inside, Task::Stop), Kind::SHOWS_FIRST);
            self.before((inside, Task::Stopped), (bundle, Task::Stopped), Kind::SHOWS_THEN);
        } else {
            self.before((bundle, Task::Start), (bundle, Task::Started), Kind::BLOCKS);
            self.before((bundle, Task::Stop), (bundle, Task::Stopped), Kind::BLOCKS);
        }
        for replica in it.replicas.clone() {
            let container = replica.container;
            self.add_orders_of(container);
            self.before((bundle, Task::Start), (container, Task::Start), Kind::BLOCKS.with(Kind::SHOWS_FIRST));
            if let Some(inside) = inside {
                self.before((bundle, Task::Stop), (inside, Task::Stop), Kind::SHOWS_FIRST);
            }
            self.before((bundle, Task::Stop), (container, Task::Stop), Kind::SHOWS_FIRST);
            self.before((container, Task::Start), (bundle, Task::Started), Kind::SHOWS_THEN);
            self.before((container, Task::Stop), (bundle, Task::Stopped), Kind::SHOWS_THEN);
            if let Some(address) = replica.address {
                self.add_orders_of(address);
                let kind = Kind::THEN_FOLLOWS.with(Kind::BLOCKS);
                self.before((address, Task::Start), (container, Task::Start), kind);
                self.before((container, Task::Stop), (address, Task::Stop), Kind::FIRST_FOLLOWS.with(Kind::ORDERED));
            }
            if let Some(connection) = replica.connection {
                self.add_orders_of(connection);
            }
        }
        if let Some(inside) = inside {
            self.add_orders_of(inside);
            if world.rsc(inside).meta.is_promotable {
                self.before((bundle, Task::Promote), (inside, Task::Promote), Kind::SHOWS_FIRST);
                self.before((inside, Task::Promoted), (bundle, Task::Promoted), Kind::SHOWS_THEN);
                self.before((bundle, Task::Demote), (inside, Task::Demote), Kind::SHOWS_FIRST);
                self.before((inside, Task::Demoted), (bundle, Task::Demoted), Kind::SHOWS_THEN);
            }
        }
    }

    /// What the operator wants.
    pub(super) fn add_configured_orders(&mut self) {
        let world = self.world;
        let mut sets: BTreeMap<(String, RscIx), ActionIx> = BTreeMap::new();
        for order in &world.situation.orders {
            let Some(then) = world.find(order.then.as_str()) else { continue };
            let firsts: Vec<RscIx> = match &order.first {
                OrderSide::One(first) => world.find(first.as_str()).into_iter().collect(),
                OrderSide::AnyOf { members, .. } => {
                    members.iter().filter_map(|name| world.find(name.as_str())).collect()
                }
            };
            if firsts.is_empty() {
                continue;
            }
            let kind = kind_of(order.kind, order.first_action);
            match &order.first {
                OrderSide::One(_) => {
                    let first = firsts[0];
                    if let Some(min) = counted_clone(world, first, order.first_action)
                        && order.kind == OrderKind::Mandatory
                    {
                        self.order_after_some(
                            order.id.clone(),
                            &instances_of(world, first),
                            first,
                            min,
                            then,
                            order,
                            &mut sets,
                        );
                    } else {
                        self.add_pair(
                            (first, order.first_action),
                            (then, order.then_action),
                            kind,
                            order.kind,
                            order.is_symmetric,
                        );
                    }
                    if order.is_symmetric && order.kind != OrderKind::Serialize {
                        self.add_inverse(first, order.first_action, then, order.then_action, order.kind);
                    }
                }
                OrderSide::AnyOf { set, .. } => {
                    self.order_after_some(set.clone(), &firsts, firsts[0], 1, then, order, &mut sets);
                    if order.is_symmetric {
                        for first in firsts {
                            self.add_inverse(first, order.first_action, then, order.then_action, OrderKind::Optional);
                        }
                    }
                }
            }
        }
    }

    /// What must not be with something goes before that comes, and the reverse.
    pub(super) fn add_orders_of_avoidance(&mut self) {
        let world = self.world;
        for colocation in world.situation.colocations.iter().filter(|colocation| colocation.score.is_must_not()) {
            let (Some(dependent), Some(primary)) =
                (world.find(colocation.dependent.as_str()), world.find(colocation.primary.as_str()))
            else {
                continue;
            };
            let sides = [(dependent, colocation.dependent_role), (primary, colocation.primary_role)];
            for (first, then) in [(sides[0], sides[1]), (sides[1], sides[0])] {
                for loss in losses(first.1) {
                    for gain in gains(then.1) {
                        let loss = (first.0, self.report_of(first.0, *loss));
                        self.before(loss, (then.0, *gain), Kind::ORDERED.with(Kind::SAME_NODE));
                    }
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one order, taken apart")]
    fn order_after_some(
        &mut self,
        name: String,
        firsts: &[RscIx],
        owner: RscIx,
        min: u32,
        then: RscIx,
        order: &model::situation::Order,
        sets: &mut BTreeMap<(String, RscIx), ActionIx>,
    ) {
        let task = task_of(order.first_action);
        let number = sets.len() as u32;
        let marker = *sets.entry((name, owner)).or_insert_with(|| {
            let at = self.graph.add(None, Task::Enough(number), None);
            let action = self.graph.get_mut(at);
            action.is_marker = true;
            action.is_runnable = false;
            action.is_optional = true;
            action.needed_before = min.max(1);
            at
        });
        for first in firsts {
            let task = self.end_of(*first, task);
            self.orderings.push(Ordering {
                first: End::Of(*first, task),
                then: End::This(marker),
                kind: Kind::COUNTED.with(Kind::SHOWS_THEN),
            });
        }
        self.orderings.push(Ordering {
            first: End::This(marker),
            then: End::Of(then, task_of(order.then_action)),
            kind: kind_of(order.kind, order.first_action).with(Kind::BLOCKS),
        });
    }

    fn add_pair(
        &mut self,
        first: (RscIx, OrderAction),
        then: (RscIx, OrderAction),
        kind: Kind,
        order_kind: OrderKind,
        is_symmetric: bool,
    ) {
        let kind =
            if is_symmetric || order_kind != OrderKind::Mandatory { kind } else { Kind::ORDERED.with(Kind::ONE_WAY) };
        let first_task = self.report_of(first.0, task_of(first.1));
        self.before((first.0, first_task), (then.0, task_of(then.1)), kind);
    }

    fn add_inverse(
        &mut self,
        first: RscIx,
        first_action: OrderAction,
        then: RscIx,
        then_action: OrderAction,
        kind: OrderKind,
    ) {
        let task = self.report_of(then, task_of(inverse(then_action)));
        let kind = match kind {
            OrderKind::Mandatory => Kind::FIRST_FOLLOWS.with(Kind::ORDERED),
            OrderKind::Optional | OrderKind::Serialize => Kind::ORDERED,
        };
        self.before((then, task), (first, task_of(inverse(first_action))), kind);
    }
}

/// What ends a role.
fn losses(role: Option<Role>) -> &'static [Task<'static>] {
    match role {
        Some(Role::Promoted) => &[Task::Demote],
        Some(Role::Unpromoted) => &[Task::Stop, Task::Promote],
        None | Some(Role::Unknown | Role::Stopped | Role::Started) => &[Task::Stop],
    }
}

/// What begins a role.
fn gains(role: Option<Role>) -> &'static [Task<'static>] {
    match role {
        Some(Role::Promoted) => &[Task::Promote],
        Some(Role::Unpromoted) => &[Task::Start, Task::Demote],
        None | Some(Role::Unknown | Role::Stopped | Role::Started) => &[Task::Start],
    }
}

/// What an order of that kind demands.
fn kind_of(kind: OrderKind, first: OrderAction) -> Kind {
    match kind {
        OrderKind::Optional => Kind::ORDERED,
        OrderKind::Serialize => Kind::SERIAL.with(Kind::ORDERED),
        OrderKind::Mandatory => match first {
            OrderAction::Start | OrderAction::Promote => Kind::THEN_FOLLOWS.with(Kind::BLOCKS),
            OrderAction::Stop | OrderAction::Demote => Kind::THEN_FOLLOWS.with(Kind::ORDERED),
        },
    }
}

/// How many instances are enough, where not all are needed.
fn counted_clone(world: &World<'_>, rsc: RscIx, action: OrderAction) -> Option<u32> {
    let it = world.rsc(rsc);
    (it.is_clone() && it.meta.clone_min > 0 && matches!(action, OrderAction::Start | OrderAction::Promote))
        .then_some(it.meta.clone_min)
}

fn instances_of(world: &World<'_>, clone: RscIx) -> Vec<RscIx> {
    world.rsc(clone).children.clone()
}
