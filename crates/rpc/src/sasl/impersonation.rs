//! Who may act for whom.

use std::collections::{BTreeSet, HashMap};

/// Rules by the user that connects. Without any, nobody acts for anybody else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Impersonation {
    rules: HashMap<String, Rule>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rule {
    users: Whom,
    groups: Whom,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Whom {
    Anybody,
    These(BTreeSet<String>),
}

impl Default for Whom {
    fn default() -> Whom {
        Whom::These(BTreeSet::new())
    }
}

impl Whom {
    /// From a setting: names with commas between them, or `*`.
    fn parse(setting: &str) -> Whom {
        let names = || setting.split(',').map(str::trim).filter(|name| !name.is_empty());
        if names().any(|name| name == "*") { Whom::Anybody } else { Whom::These(names().map(str::to_owned).collect()) }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Whom::Anybody => true,
            Whom::These(names) => names.contains(name),
        }
    }
}

impl Impersonation {
    /// Nobody acts for anybody else.
    pub fn none() -> Impersonation {
        Impersonation::default()
    }

    /// Lets `connected` act for `users` (the value of `…impersonation.<connected>.users`): names with commas, or `*`.
    pub fn for_users(mut self, connected: &str, users: &str) -> Impersonation {
        self.rules.entry(connected.to_owned()).or_default().users = Whom::parse(users);
        self
    }

    /// Lets `connected` act for the members of `groups` (the value of `…impersonation.<connected>.groups`).
    pub fn for_groups(mut self, connected: &str, groups: &str) -> Impersonation {
        self.rules.entry(connected.to_owned()).or_default().groups = Whom::parse(groups);
        self
    }

    /// Whether `connected` may act for `user`, who is in `groups`.
    pub fn allows(&self, connected: &str, user: &str, groups: &[String]) -> bool {
        connected == user
            || self.rules.get(connected).is_some_and(|rule| {
                rule.users.has(user)
                    || rule.groups == Whom::Anybody
                    || groups.iter().any(|group| rule.groups.has(group))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_acts_for_another_without_a_rule() {
        let groups = ["staff".to_owned()];
        assert!(!Impersonation::none().allows("ann", "bob", &groups));
        assert!(Impersonation::none().allows("ann", "ann", &[]));
        let rules =
            Impersonation::none().for_users("hue", "bob, cy").for_groups("oozie", "staff").for_users("root", "*");
        assert!(rules.allows("hue", "cy", &[]));
        assert!(!rules.allows("hue", "dan", &groups));
        assert!(rules.allows("oozie", "dan", &groups));
        assert!(!rules.allows("oozie", "dan", &[]));
        assert!(rules.allows("root", "anybody", &[]));
        assert!(!Impersonation::none().for_users("hue", "").allows("hue", "", &groups));
    }
}
