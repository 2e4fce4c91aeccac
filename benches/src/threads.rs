//! What threads of this process cost.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Time on a processor of each thread that there is, by its id, with its name.
#[derive(Clone, Debug, Default)]
pub struct Threads(HashMap<u32, (String, Duration)>);

impl Threads {
    /// As of now. Linux only.
    pub fn now() -> Self {
        let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
        let thread = |id: u32| {
            // a thread may end meanwhile
            let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
            let times = fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
            let spent = times.split(' ').next()?.parse().ok()?;
            Some((id, (name.trim_end().to_owned(), Duration::from_nanos(spent))))
        };
        Self(tasks.filter_map(|task| thread(task.file_name().to_str()?.parse().ok()?)).collect())
    }

    /// Those that `before` did not have.
    #[must_use]
    pub fn without(mut self, before: &Self) -> Self {
        self.0.retain(|id, _| !before.0.contains_key(id));
        self
    }

    /// Those that `these` has too.
    #[must_use]
    pub fn of(mut self, these: &Self) -> Self {
        self.0.retain(|id, _| these.0.contains_key(id));
        self
    }

    /// What those of these threads that have this name, or all, have spent between then and now.
    pub fn spent(&self, now: &Self, name: Option<&str>) -> Duration {
        let wanted = self.0.iter().filter(|(_, (known, _))| name.is_none_or(|name| name == known));
        wanted.filter_map(|(id, (_, then))| now.0.get(id).map(|(_, now)| now.saturating_sub(*then))).sum()
    }
}
