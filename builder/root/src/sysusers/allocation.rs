//! Which ids users and groups get.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lycia_tree::{Follow, Metadata, Tree};

use super::{Entry, Line, Primary, Wish};
use crate::RootError;
use crate::accounts::{Accounts, Group, User};

/// The ids that are given out where no line gives a range.
const USUAL: (u32, u32) = (1, 999);

/// What was made.
#[derive(Default)]
pub struct Made {
    /// Names of users in the order of their making.
    pub users: Vec<String>,
    /// Names of groups.
    pub groups: Vec<String>,
    /// Whether groups that were there have new members.
    pub members: bool,
}

/// A user or group that is asked for.
#[derive(Clone, Debug)]
struct Item<'l> {
    name: &'l str,
    line: &'l Line,
    user: bool,
    wish: &'l Wish,
    uid: Option<u32>,
    gid: Option<u32>,
    /// The group is given by another line or by number, and its id says nothing about the user's.
    strict: bool,
    primary: Option<&'l Primary>,
    gecos: &'l str,
    home: &'l str,
    shell: Option<&'l str>,
}

/// Accounts that are there, and those that come to them.
pub struct Allocation {
    pub accounts: Accounts,
    user_of: HashMap<u32, String>,
    group_of: HashMap<u32, String>,
    uid_of: HashMap<String, u32>,
    gid_of: HashMap<String, u32>,
    /// Of those that were made here.
    new_uids: BTreeMap<u32, String>,
    new_gids: BTreeMap<u32, String>,
    /// What may be given out; the search goes down and never back.
    ranges: Vec<(u32, u32)>,
    search: u32,
}

impl Allocation {
    pub fn new(accounts: Accounts) -> Allocation {
        let mut allocation = Allocation {
            user_of: HashMap::new(),
            group_of: HashMap::new(),
            uid_of: HashMap::new(),
            gid_of: HashMap::new(),
            new_uids: BTreeMap::new(),
            new_gids: BTreeMap::new(),
            ranges: Vec::new(),
            search: u32::MAX,
            accounts,
        };
        for user in &allocation.accounts.users {
            let (uid, name) = (user.uid, &user.name);
            allocation.user_of.entry(uid).or_insert_with(|| name.clone());
            allocation.uid_of.entry(name.clone()).or_insert(uid);
        }
        for group in &allocation.accounts.groups {
            let (gid, name) = (group.gid, &group.name);
            allocation.group_of.entry(gid).or_insert_with(|| name.clone());
            allocation.gid_of.entry(name.clone()).or_insert(gid);
        }
        allocation
    }

    /// Makes what the lines ask for and is not there.
    pub fn make(
        &mut self,
        tree: &Tree,
        lines: &[Line],
        warnings: &mut Vec<String>,
    ) -> Result<Made, RootError> {
        let any = Wish::Any;
        let mut users: Vec<Item<'_>> = Vec::new();
        let mut groups: Vec<Item<'_>> = Vec::new();
        let mut members: Vec<(&str, Vec<&str>)> = Vec::new();
        let (mut user_names, mut group_names) = (HashMap::new(), HashMap::new());
        let mut group_places: HashMap<&str, usize> = HashMap::new();
        for line in lines {
            let mut item = Item {
                name: "",
                line,
                user: false,
                wish: &any,
                uid: None,
                gid: None,
                strict: false,
                primary: None,
                gecos: "",
                home: "/",
                shell: None,
            };
            match &line.entry {
                Entry::Range(low, high) => self.ranges.push((*low, *high)),
                Entry::Member { user, group } => {
                    let place = *group_places.entry(group).or_insert_with(|| {
                        members.push((group, Vec::new()));
                        members.len() - 1
                    });
                    if !members[place].1.contains(&user.as_str()) {
                        members[place].1.push(user);
                    }
                }
                Entry::Group { name, gid } => {
                    if first(&mut group_names, name, line, warnings) {
                        item.name = name;
                        item.wish = gid;
                        if let Wish::Number(gid) = gid {
                            item.gid = Some(*gid);
                        }
                        groups.push(item);
                    }
                }
                Entry::User {
                    name,
                    uid,
                    primary,
                    gecos,
                    home,
                    shell,
                } => {
                    if first(&mut user_names, name, line, warnings) {
                        item.name = name;
                        item.user = true;
                        item.wish = uid;
                        item.primary = primary.as_ref();
                        if let Wish::Number(uid) = uid {
                            item.uid = Some(*uid);
                        }
                        if let Some(Primary::Number(gid)) = primary {
                            item.gid = Some(*gid);
                            item.strict = true;
                        }
                        item.gecos = gecos.as_deref().unwrap_or_default();
                        item.home = home.as_deref().unwrap_or("/");
                        item.shell = shell.as_deref();
                        users.push(item);
                    }
                }
            }
        }
        // What `m` lines name is made, too.
        let line_of = |group: &str, user: Option<&str>| {
            lines.iter().find(|line| match &line.entry {
                Entry::Member {
                    user: one,
                    group: other,
                } => group == other && user.is_none_or(|user| user == one),
                _ => false,
            })
        };
        for (group, names) in &members {
            let implied = |name, user, line| Item {
                name,
                line,
                user,
                wish: &any,
                uid: None,
                gid: None,
                strict: false,
                primary: None,
                gecos: "",
                home: "/",
                shell: None,
            };
            for &name in names {
                if let (None, Some(line)) = (user_names.get(name), line_of(group, Some(name))) {
                    user_names.insert(name, line);
                    users.push(implied(name, true, line));
                }
            }
            if let (false, Some(line)) = (
                user_names.contains_key(group) || group_names.contains_key(group),
                line_of(group, None),
            ) {
                group_names.insert(group, line);
                groups.push(implied(group, false, line));
            }
        }
        if self.ranges.is_empty() {
            self.ranges.push(USUAL);
        }

        let mut made = Made::default();
        for item in &mut groups {
            self.add_group(tree, item, &mut made, warnings)?;
        }
        for item in &mut users {
            self.add_user(tree, item, &groups, &mut made, warnings)?;
        }
        self.add_members(&members, &mut made);
        Ok(made)
    }

    fn add_members(&mut self, members: &[(&str, Vec<&str>)], made: &mut Made) {
        for (name, users) in members {
            let Some(group) = self.accounts.groups.iter_mut().find(|group| group.name == *name) else {
                continue;
            };
            let new: Vec<String> = users
                .iter()
                .filter(|user| !group.members.iter().any(|member| member == *user))
                .map(|&user| user.to_owned())
                .collect();
            if !new.is_empty() {
                made.members = true;
                let all: BTreeSet<String> = group.members.drain(..).chain(new).collect();
                group.members = all.into_iter().collect();
            }
        }
    }

    fn add_user(
        &mut self,
        tree: &Tree,
        item: &mut Item<'_>,
        groups: &[Item<'_>],
        made: &mut Made,
        warnings: &mut Vec<String>,
    ) -> Result<(), RootError> {
        let named = match item.primary {
            Some(Primary::Name(name)) => Some(name.as_str()),
            _ => None,
        };
        let wanted = named.unwrap_or(item.name);
        let queued = groups.iter().find(|group| {
            item.gid.is_none() && group.name == wanted && made.groups.iter().any(|name| name == wanted)
        });
        if let Some(group) = queued {
            item.gid = group.gid;
            item.strict = true;
        } else if let Some(name) = named {
            let gid = self.gid_of.get(name).copied();
            item.gid = Some(gid.ok_or_else(|| item.line.wrong(format!("there is no group `{name}`")))?);
            item.strict = true;
        } else {
            self.add_group(tree, item, made, warnings)?;
        }

        if let Some(&uid) = self.uid_of.get(item.name) {
            item.uid = Some(uid);
            return Ok(());
        }
        if let Some(uid) = item.uid
            && !self.uid_is_free(uid, item.name, !item.strict)
        {
            warnings.push(taken(item, uid));
            item.uid = None;
        }
        if item.uid.is_none()
            && let Some(owner) = owner(tree, item.wish)?
            && self.may_give(owner.uid)
            && self.uid_is_free(owner.uid, item.name, true)
        {
            item.uid = Some(owner.uid);
        }
        if let (None, Some(gid)) = (item.uid, item.gid)
            && self.uid_is_free(gid, item.name, true)
        {
            item.uid = Some(gid);
        }
        let uid = match item.uid {
            Some(uid) => uid,
            None => loop {
                let uid = self.next_lower(item)?;
                if self.uid_is_free(uid, item.name, true) {
                    break uid;
                }
            },
        };
        let shell = if uid == 0 { "/bin/sh" } else { "/usr/bin/nologin" };
        self.new_uids.insert(uid, item.name.to_owned());
        self.accounts.users.push(User {
            name: item.name.to_owned(),
            password: "x".to_owned(),
            uid,
            gid: item.gid.unwrap_or(uid),
            gecos: item.gecos.to_owned(),
            home: item.home.to_owned(),
            shell: item.shell.unwrap_or(shell).to_owned(),
        });
        made.users.push(item.name.to_owned());
        Ok(())
    }

    /// Makes a group, or the group of a user.
    fn add_group(
        &mut self,
        tree: &Tree,
        item: &mut Item<'_>,
        made: &mut Made,
        warnings: &mut Vec<String>,
    ) -> Result<(), RootError> {
        if let Some(&gid) = self.gid_of.get(item.name) {
            item.gid = Some(gid);
            return Ok(());
        }
        if let Some(gid) = item.gid {
            let free = self.gid_is_free(gid, item.name, false);
            if item.strict {
                return match free {
                    true => Err(item.line.wrong(format!("there is no group with the id {gid}"))),
                    false => Ok(()),
                };
            }
            if !free {
                warnings.push(taken(item, gid));
                item.gid = None;
            }
        }
        if let (None, Some(uid)) = (item.gid, item.uid)
            && self.gid_is_free(uid, item.name, true)
        {
            item.gid = Some(uid);
        }
        if item.gid.is_none()
            && let Some(owner) = owner(tree, item.wish)?
            && self.may_give(owner.gid)
            && self.gid_is_free(owner.gid, item.name, true)
        {
            item.gid = Some(owner.gid);
        }
        let gid = match item.gid {
            Some(gid) => gid,
            None => loop {
                let gid = self.next_lower(item)?;
                if self.gid_is_free(gid, item.name, true) {
                    break gid;
                }
            },
        };
        item.gid = Some(gid);
        self.new_gids.insert(gid, item.name.to_owned());
        self.gid_of.insert(item.name.to_owned(), gid);
        self.accounts.groups.push(Group {
            name: item.name.to_owned(),
            password: "x".to_owned(),
            gid,
            members: Vec::new(),
        });
        made.groups.push(item.name.to_owned());
        Ok(())
    }

    /// Whether a user may have an id; with `groups` not where a group of another name has it.
    fn uid_is_free(&self, uid: u32, name: &str, groups: bool) -> bool {
        let other = |of: Option<&String>| of.is_some_and(|owner| owner != name);
        !self.new_uids.contains_key(&uid)
            && !self.user_of.contains_key(&uid)
            && !(groups && (other(self.new_gids.get(&uid)) || other(self.group_of.get(&uid))))
    }

    fn gid_is_free(&self, gid: u32, name: &str, users: bool) -> bool {
        let other = |of: Option<&String>| of.is_some_and(|owner| owner != name);
        !self.new_gids.contains_key(&gid)
            && !self.group_of.contains_key(&gid)
            && !(users && (other(self.new_uids.get(&gid)) || other(self.user_of.get(&gid))))
    }

    /// Whether an id that is read off a file may be given out.
    fn may_give(&self, id: u32) -> bool {
        id != 0 && self.ranges.iter().any(|&(low, high)| (low..=high).contains(&id))
    }

    /// The next id down.
    fn next_lower(&mut self, item: &Item<'_>) -> Result<u32, RootError> {
        let none = || RootError::NoId(item.name.to_owned());
        let candidate = self.search.checked_sub(1).ok_or_else(none)?;
        let below = self.ranges.iter().filter(|(low, _)| *low <= candidate);
        let within = below.map(|&(_, high)| high.min(candidate)).max();
        self.search = within.ok_or_else(none)?;
        Ok(self.search)
    }
}

/// Whether a name is new; another line about one that is known is left out, and told where it differs.
fn first<'l>(
    known: &mut HashMap<&'l str, &'l Line>,
    name: &'l str,
    line: &'l Line,
    warnings: &mut Vec<String>,
) -> bool {
    match known.get(name) {
        None => {
            known.insert(name, line);
            true
        }
        Some(before) => {
            if before.entry != line.entry {
                warnings.push(format!(
                    "{}, line {}: `{name}` differs from {}, line {}, which counts",
                    line.file, line.number, before.file, before.number
                ));
            }
            false
        }
    }
}

fn taken(item: &Item<'_>, id: u32) -> String {
    let what = if item.user { "user" } else { "group" };
    format!(
        "{}, line {}: the {what} {} wants the id {id}, which is taken, and gets another",
        item.line.file, item.line.number, item.name
    )
}

fn owner<'t>(tree: &'t Tree, wish: &Wish) -> Result<Option<&'t Metadata>, RootError> {
    let Wish::OwnerOf(path) = wish else {
        return Ok(None);
    };
    let found = tree.find(path.as_bytes(), Follow::All)?;
    Ok(found.map(|id| &tree.inode(id).metadata))
}
