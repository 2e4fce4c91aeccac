//! Rounds of compilation, each with fewer or older versions, until one has no mistake.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::compile::{Ways, claims_of};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::model::Config;
use crate::source::{Source, Span};

use super::{Finding, TeamFile, TeamOutcome, TeamState};

/// A team on its way down its versions.
pub(super) struct Member<'t> {
    file: &'t TeamFile,
    /// Newest first.
    versions: Vec<Version>,
    findings: Vec<Finding>,
}

/// One text of a team.
struct Version {
    source: Source,
    /// It served last.
    is_last_good: bool,
}

/// A compiled whole.
pub(super) type Whole = (Config, Vec<Diagnostic>, Arc<Source>);

impl<'t> Member<'t> {
    pub(super) fn new(file: &'t TeamFile, last_good: Option<&Arc<str>>) -> Member<'t> {
        let is_last_good = file.unreadable.is_none() && last_good.is_some_and(|text| **text == *file.source.text());
        let mut versions = vec![Version { source: file.source.clone(), is_last_good }];
        if let Some(text) = last_good.filter(|_| !is_last_good) {
            let name = format!("{} (last good version)", file.source.name());
            versions.push(Version { source: Source::new(name, &**text), is_last_good: true });
        }
        Member { file, versions, findings: Vec::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.file.name
    }

    /// The version that is tried now.
    fn now(&self) -> Option<&Version> {
        self.versions.first()
    }

    fn last_good(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.is_last_good)
    }

    /// Goes on to the version before.
    pub(super) fn refuse(&mut self, why: Finding) {
        if !self.versions.is_empty() {
            self.versions.remove(0);
            self.findings.push(why);
        }
    }

    /// Takes the newest version away, for a while.
    fn step_back(&mut self) -> Option<Version> {
        (!self.versions.is_empty()).then(|| self.versions.remove(0))
    }

    /// A newer version is good: nothing of what was wrong with older ones counts.
    fn step_forward(&mut self, version: Version) {
        self.versions.insert(0, version);
        self.findings.clear();
    }

    /// No version will do.
    pub(super) fn refuse_all(&mut self, code: &'static str, why: String) {
        self.versions.clear();
        self.findings.push(Finding::of_file(&self.file.source, code, why));
    }

    /// Who has served before goes first, as it was before what is new.
    fn rank(&self) -> (bool, bool, &str) {
        let serves = self.now().is_some_and(|version| version.is_last_good);
        (!serves, self.last_good().is_none(), self.name())
    }

    pub(super) fn outcome(self) -> TeamOutcome {
        let state = match self.versions.first() {
            None => TeamState::Out,
            Some(_) if self.findings.is_empty() => TeamState::Current,
            Some(_) => TeamState::LastGood,
        };
        let text = self.versions.first().map(|version| version.source.text().into());
        let (name, file) = (self.file.name.clone(), self.file.source.name().to_owned());
        TeamOutcome { name, file, state, text, findings: self.findings }
    }
}

/// What all rounds have in common.
pub(super) struct Rounds<'r> {
    pub(super) main: &'r Source,
    pub(super) exists: &'r dyn Fn(&Path) -> bool,
    pub(super) refuse: &'r dyn Fn(&Config) -> Option<Diagnostic>,
    pub(super) ways: Ways,
}

impl Rounds<'_> {
    /// A new version must not want what the last good version of another team owns and its new one has not given up.
    pub(super) fn refuse_theft(&self, members: &mut [Member<'_>]) {
        let of = |version: Option<&Version>| version.and_then(|version| claims_of(&version.source, &self.ways));
        let new: Vec<_> = members.iter().map(|member| of(member.now().filter(|now| !now.is_last_good))).collect();
        let kept: Vec<_> = members
            .iter()
            .zip(&new)
            .map(|(member, new)| match (of(member.last_good()), new) {
                (Some(old), Some(new)) => Some(old.shared_with(new)),
                (old, _) => old,
            })
            .collect();
        let mut thefts = Vec::new();
        for (thief, wanted) in new.iter().enumerate().filter_map(|(at, new)| Some((at, new.as_ref()?))) {
            let owner = kept
                .iter()
                .enumerate()
                .find(|(at, kept)| *at != thief && kept.as_ref().is_some_and(|kept| kept.overlaps(wanted)));
            thefts.extend(owner.map(|(owner, _)| (thief, owner)));
        }
        // Judged beside what the owner has, so that both places are told.
        let told: Vec<_> =
            thefts.into_iter().map(|(thief, owner)| (thief, self.theft(&members[thief], &members[owner]))).collect();
        for (thief, finding) in told {
            if let (Some(finding), Some(member)) = (finding, members.get_mut(thief)) {
                member.refuse(finding);
            }
        }
    }

    fn theft(&self, thief: &Member<'_>, owner: &Member<'_>) -> Option<Finding> {
        let wanted = thief.now()?;
        // The owner's newest text if it still owns it there: that is where people look.
        let [newest, served] = [owner.now(), owner.last_good()];
        [newest, served].into_iter().flatten().find_map(|owned| {
            let (source, wrong) = self.compile(&[&owned.source, &wanted.source]).err()?;
            let diagnostics: Vec<_> = wrong.iter().filter(|one| file_of(&source, one) == 2).cloned().collect();
            let is_theft = diagnostics.iter().any(|one| one.code == "teams/conflict" && one.related.is_some());
            is_theft.then(|| Finding { source, diagnostics })
        })
    }

    /// The newest version that is good with the main file alone.
    pub(super) fn settle(&self, member: &mut Member<'_>) {
        while let Some(version) = member.now() {
            let Err((source, wrong)) = self.compile(&[&version.source]) else { return };
            member.refuse(Finding::of_last(source, &wrong, 1));
        }
    }

    /// All teams at once. If they do not fit together, what is new is judged beside what serves, one team after the other: a
    /// version that is refused then stands in nobody's way. `None`: no team is left.
    pub(super) fn together(&self, members: &mut [Member<'_>]) -> Option<Whole> {
        if self.compile(&in_order(members)).is_err() {
            let mut new: Vec<_> = order(members);
            new.retain(|at| members[*at].now().is_some_and(|version| !version.is_last_good));
            let new = new.into_iter().filter_map(|at| Some((at, members[at].step_back()?))).collect();
            self.fit(members);
            self.advance(members, new);
        }
        self.final_round(members)
    }

    /// Who does not fit beside the others goes back a version, until all fit.
    fn fit(&self, members: &mut [Member<'_>]) {
        if self.compile(&in_order(members)).is_err() {
            members.iter_mut().for_each(|member| self.settle(member));
        }
        loop {
            let order = order(members);
            let Err((source, wrong)) = self.compile(&in_order(members)) else { return };
            let mut losers = Self::losers(&order, &source, &wrong);
            if losers.is_empty() {
                losers.extend(self.first_too_many(&order, members));
            }
            if losers.is_empty() {
                return;
            }
            for (at, finding) in losers {
                members[at].refuse(finding);
                self.settle(&mut members[at]);
            }
        }
    }

    /// Takes each new version that fits beside all others as they are by then. Who came too early for what another gives up is
    /// asked once more.
    fn advance(&self, members: &mut [Member<'_>], mut new: Vec<(usize, Version)>) {
        for is_last in [false, true] {
            let mut early = Vec::new();
            for (at, version) in new {
                match self.beside(members, at, &version.source) {
                    None => members[at].step_forward(version),
                    Some(finding) if is_last => members[at].findings.insert(0, finding),
                    Some(_) => early.push((at, version)),
                }
            }
            new = early;
        }
    }

    /// What is wrong with a version beside what the other teams have now.
    fn beside(&self, members: &[Member<'_>], at: usize, version: &Source) -> Option<Finding> {
        let others = order(members).into_iter().filter(|other| *other != at);
        let mut sources: Vec<&Source> = others.filter_map(|other| Some(&members[other].now()?.source)).collect();
        sources.push(version);
        let (source, wrong) = self.compile(&sources).err()?;
        Some(Finding::of_last(source, &wrong, sources.len()))
    }

    /// In the order of their names, whatever came before: the same files give the same configuration.
    fn final_round(&self, members: &[Member<'_>]) -> Option<Whole> {
        let sources: Vec<&Source> = members.iter().filter_map(|member| Some(&member.now()?.source)).collect();
        let source = Source::joined(self.main, sources.iter().copied());
        let (config, warnings) = Config::parse_with(&source, self.exists).ok()?;
        Some((config, warnings, Arc::new(source)))
    }

    /// Whose mistakes these are: of two teams in one mistake the one that came later. A mistake that names one team only
    /// is nobody's, because each is good by itself: it is one too many of something.
    fn losers(order: &[usize], source: &Arc<Source>, wrong: &Diagnostics) -> BTreeMap<usize, Finding> {
        let mut losers: BTreeMap<usize, Finding> = BTreeMap::new();
        for one in wrong.iter().filter(|one| one.severity == Severity::Error && is_between_teams(source, one)) {
            let Some(at) = file_of(source, one).checked_sub(1).and_then(|file| order.get(file)) else { continue };
            let none = || Finding { source: Arc::clone(source), diagnostics: Vec::new() };
            losers.entry(*at).or_insert_with(none).diagnostics.push(one.clone());
        }
        losers
    }

    /// A limit of the whole is passed, and no file is named: the first that passes it, beside those before it.
    fn first_too_many(&self, order: &[usize], members: &[Member<'_>]) -> Option<(usize, Finding)> {
        let sources: Vec<(usize, &Source)> =
            order.iter().filter_map(|at| Some((*at, &members[*at].now()?.source))).collect();
        let upto = |n: usize| sources.iter().take(n).map(|(_, source)| *source).collect::<Vec<_>>();
        let passes = (1..=sources.len()).find_map(|n| Some((n, self.compile(&upto(n)).err()?)));
        let (n, (source, wrong)) = passes?;
        let (at, _) = sources.get(n.checked_sub(1)?)?;
        Some((*at, Finding { source, diagnostics: wrong.to_vec() }))
    }

    fn compile(&self, teams: &[&Source]) -> Result<(), (Arc<Source>, Diagnostics)> {
        let source = Arc::new(Source::joined(self.main, teams.iter().copied()));
        let parsed = Config::parse_with(&source, self.exists).and_then(|(config, _)| match (self.refuse)(&config) {
            // Found behind the parser, so its place is made up: the last file is the one that is tried.
            Some(refused) => Err(Diagnostic { span: Span::at(source.file_range(teams.len()).start), ..refused }.into()),
            None => Ok(()),
        });
        parsed.map_err(|wrong| (source, wrong))
    }
}

impl Finding {
    /// What is wrong with the last of the files of a whole.
    fn of_last(source: Arc<Source>, wrong: &Diagnostics, file: usize) -> Finding {
        let diagnostics: Vec<_> = wrong.iter().filter(|one| file_of(&source, one) == file).cloned().collect();
        // A mistake that shows in another file only, for instance one entry too many in all.
        let diagnostics = if diagnostics.is_empty() { wrong.to_vec() } else { diagnostics };
        Finding { source, diagnostics }
    }
}

/// The newest versions of all members, as they are judged beside each other.
fn in_order<'m>(members: &'m [Member<'_>]) -> Vec<&'m Source> {
    order(members).into_iter().filter_map(|at| Some(&members[at].now()?.source)).collect()
}

/// Members that have a version, as they are judged beside each other.
fn order(members: &[Member<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).filter(|at| members[*at].now().is_some()).collect();
    order.sort_by(|a, b| members[*a].rank().cmp(&members[*b].rank()));
    order
}

/// The latest file of a mistake.
fn file_of(source: &Source, one: &Diagnostic) -> usize {
    let related = one.related.as_ref().map_or(0, |(span, _)| source.file_at(span.start));
    source.file_at(one.span.start).max(related)
}

fn is_between_teams(source: &Source, one: &Diagnostic) -> bool {
    let here = source.file_at(one.span.start);
    let there = one.related.as_ref().map_or(here, |(span, _)| source.file_at(span.start));
    here != there && here.min(there) > 0
}
