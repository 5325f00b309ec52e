//! Which resources belong together, and which apart? Everything becomes pairs, in the order of their making.

use model::ResourceName;
use model::situation::{Colocation, Role, Score};

use crate::constraints::{Context, Set};
use crate::source::Element;
use crate::values;

/// One side of a pair.
type Side<'m> = (&'m ResourceName, Option<Role>);

struct Reader<'c, 's, 'a> {
    context: &'c Context<'s, 'a>,
    id: String,
    attribute: String,
    influence: Option<bool>,
    pairs: &'c mut Vec<Colocation>,
}

/// Adds what a constraint comes to.
pub(crate) fn read<'a>(context: &Context<'_, 'a>, element: Element<'a>, pairs: &mut Vec<Colocation>) {
    let mut reader = Reader {
        context,
        id: context.id(element),
        attribute: element.attribute("node-attribute").unwrap_or("#uname").to_owned(),
        influence: element.attribute("influence").and_then(values::boolean),
        pairs,
    };
    let score = context.score(element).unwrap_or_default();
    let sets = context.sets(element);
    if !sets.is_empty() {
        reader.sets(&sets, score);
        return;
    }
    let (Some(dependent), Some(primary)) = (element.attribute("rsc"), element.attribute("with-rsc")) else {
        context.source.remark(element, "a colocation needs `rsc` and `with-rsc`, or sets; it is left out");
        return;
    };
    let (Ok(dependent_role), Ok(primary_role)) =
        (context.role(element, "rsc-role"), context.role(element, "with-rsc-role"))
    else {
        return;
    };
    match (context.set_of(element, dependent), context.set_of(element, primary)) {
        (Some(_), Some(_)) => {
            context.source.remark(element, "both sides are templates or tags; the constraint is left out");
        }
        (Some(set), None) => {
            let Some(primary) = context.one(element, primary) else { return };
            set.members
                .iter()
                .for_each(|member| reader.pair((member, dependent_role), (&primary, primary_role), score));
        }
        (None, Some(set)) => {
            let Some(dependent) = context.one(element, dependent) else { return };
            let side = (&dependent, dependent_role);
            set.members.iter().for_each(|member| reader.pair(side, (member, primary_role), score));
        }
        (None, None) => {
            let (dependent, primary) = (context.one(element, dependent), context.one(element, primary));
            if let (Some(dependent), Some(primary)) = (dependent, primary) {
                reader.pair((&dependent, dependent_role), (&primary, primary_role), score);
            }
        }
    }
}

impl Reader<'_, '_, '_> {
    fn pair(&mut self, (dependent, dependent_role): Side<'_>, (primary, primary_role): Side<'_>, score: Score) {
        if score == Score::ZERO || dependent == primary {
            return;
        }
        self.pairs.push(Colocation {
            id: self.id.clone(),
            dependent: dependent.clone(),
            dependent_role,
            primary: primary.clone(),
            primary_role,
            score,
            attribute: self.attribute.clone(),
            influence: self.influence,
        });
    }

    fn sets(&mut self, sets: &[Set<'_>], score: Score) {
        let mut before: Option<&Set<'_>> = None;
        for set in sets {
            self.inside(set, score);
            if let Some(before) = before {
                self.between(before, set, score);
            }
            before = Some(set);
        }
    }

    /// Pairs within a set.
    fn inside(&mut self, set: &Set<'_>, score: Score) {
        let own = set.element.attribute("score").and_then(|text| values::score(text, self.context.colours));
        let score = own.unwrap_or(score);
        if set.sequential == Some(false) {
            return;
        }
        let side = |name| (name, set.role);
        if score < Score::ZERO {
            // Only if everyone avoids everyone before does none of them meet another.
            for (at, member) in set.members.iter().enumerate() {
                set.members[..at].iter().for_each(|earlier| self.pair(side(member), side(earlier), score));
            }
            return;
        }
        let is_as_group = set.element.attribute("ordering").is_none_or(|text| text.eq_ignore_ascii_case("group"));
        for two in set.members.windows(2) {
            let (earlier, later) = (side(&two[0]), side(&two[1]));
            if is_as_group { self.pair(later, earlier, score) } else { self.pair(earlier, later, score) }
        }
    }

    /// Pairs between a set and the next one; the earlier is the dependent.
    fn between(&mut self, dependent: &Set<'_>, primary: &Set<'_>, score: Score) {
        let in_sequence = |set: &Set<'_>| set.sequential != Some(false);
        let first = dependent.members.first().filter(|_| in_sequence(dependent));
        let last = primary.members.last().filter(|_| in_sequence(primary));
        // Which member is the last of a set that is cut short is not known.
        if primary.is_cut && in_sequence(primary) {
            return;
        }
        let dependents = first.map_or(&dependent.members[..], std::slice::from_ref);
        let primaries = last.map_or(&primary.members[..], std::slice::from_ref);
        for one in dependents {
            primaries.iter().for_each(|other| self.pair((one, dependent.role), (other, primary.role), score));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::constrained;

    fn pairs(text: &str) -> Vec<String> {
        let situation = constrained(text).situation;
        situation.colocations.iter().map(|c| format!("{} with {} {}", c.dependent, c.primary, c.score)).collect()
    }

    fn set(attributes: &str, members: &[&str]) -> String {
        let members: String = members.iter().map(|name| format!(r#"<resource_ref id="{name}"/>"#)).collect();
        format!("<resource_set {attributes}>{members}</resource_set>")
    }

    fn sets(score: &str, sets: &[String]) -> Vec<String> {
        pairs(&format!(r#"<rsc_colocation score="{score}">{}</rsc_colocation>"#, sets.concat()))
    }

    #[test]
    fn a_score_of_0_is_no_constraint() {
        assert_eq!(pairs(r#"<rsc_colocation rsc="x" with-rsc="y" score="5"/>"#), ["x with y 5"]);
        assert!(pairs(r#"<rsc_colocation rsc="x" with-rsc="y"/>"#).is_empty());
        assert!(pairs(r#"<rsc_colocation rsc="x" with-rsc="w" score="5"/>"#).is_empty());
    }

    #[test]
    fn within_a_set_each_follows_the_one_before_or_avoids_all_of_them() {
        assert_eq!(sets("9", &[set("", &["x", "y", "z"])]), ["y with x 9", "z with y 9"]);
        assert_eq!(sets("9", &[set("ordering=\"listed\"", &["x", "y", "z"])]), ["x with y 9", "y with z 9"]);
        assert_eq!(sets("-9", &[set("", &["x", "y", "z"])]), ["y with x -9", "z with x -9", "z with y -9"]);
        assert!(sets("9", &[set("sequential=\"false\"", &["x", "y"])]).is_empty());
        assert_eq!(sets("9", &[set("score=\"4\"", &["x", "y"])]), ["y with x 4"]);
    }

    #[test]
    fn between_sets_the_first_follows_the_last() {
        let two = [set("", &["x", "y"]), set("", &["z", "c"])];
        assert_eq!(sets("9", &two), ["y with x 9", "c with z 9", "x with c 9"]);
        let loose = [set("sequential=\"false\"", &["x", "y"]), set("", &["z"])];
        assert_eq!(sets("9", &loose), ["x with z 9", "y with z 9"]);
    }

    #[test]
    fn an_unknown_member_ends_its_set() {
        assert_eq!(sets("9", &[set("", &["x", "y", "w", "z"])]), ["y with x 9"]);
    }
}
