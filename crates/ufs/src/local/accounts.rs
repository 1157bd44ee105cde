//! Names of users and groups, read once from the system's files.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

/// Names by number and back. Accounts kept elsewhere than in `/etc/passwd` and `/etc/group` appear as their number.
#[derive(Default)]
pub(super) struct Accounts {
    users: OnceLock<Table>,
    groups: OnceLock<Table>,
}

struct Table {
    names: HashMap<u32, String>,
    numbers: HashMap<String, u32>,
}

impl Accounts {
    pub fn user(&self, uid: u32) -> String {
        self.users().name(uid)
    }
    pub fn group(&self, gid: u32) -> String {
        self.groups().name(gid)
    }
    /// A number is taken as such. None for a name the machine does not know.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.users().number(name)
    }
    pub fn gid(&self, name: &str) -> Option<u32> {
        self.groups().number(name)
    }
    fn users(&self) -> &Table {
        self.users.get_or_init(|| Table::read("/etc/passwd"))
    }
    fn groups(&self) -> &Table {
        self.groups.get_or_init(|| Table::read("/etc/group"))
    }
}

impl Table {
    /// Lines of `name:x:number:…`; others are passed over. An unreadable file knows no names.
    fn read(path: &str) -> Table {
        let text = fs::read_to_string(path).unwrap_or_default();
        let rows = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
        });
        let mut table = Table { names: HashMap::new(), numbers: HashMap::new() };
        for (name, number) in rows {
            table.names.entry(number).or_insert_with(|| name.clone());
            table.numbers.entry(name).or_insert(number);
        }
        table
    }
    fn name(&self, number: u32) -> String {
        self.names.get(&number).cloned().unwrap_or_else(|| number.to_string())
    }
    fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied().or_else(|| name.parse().ok())
    }
}
