//! One seed: lives that are ended at every step, or at random ones, and what is found after each.
//!
//! | scenario | a life | ended |
//! |---|---|---|
//! | alone | one thread, a database without threads: the same steps every time | at each step in turn |
//! | faults | the same, while calls fail: a sync, the device for want of room, one call in some | at a random step, or after its last operation |
//! | threads | several threads, mostly with the database's own beside them | at random steps |
//!
//! After every crash, and for every choice of what survives it that is tried:
//!
//! 1. opening succeeds, and what it shows is explained by one cut that keeps every promise (`oracle`);
//! 2. no more acknowledged commits are lost than may wait at once;
//! 3. what it shows survives another crash at once, in which nothing survives that is not durable;
//! 4. opening it a second time shows the same;
//! 5. opening that is itself cut off by a crash, at some of its steps, leaves the same to be opened;
//! 6. opening that fails for want of room, or because a call fails, leaves the same to be opened;
//! 7. a process that was killed leaves a state of a cut too, and it is durable once it has been shown;
//! 8. in some cases a second life goes on from there, and ends in a crash.
//!
//! A life that is not ended shuts down instead, and everything with a record is there.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use unlatched::internals::{Fault, FaultPlan, SimDisk, Survivors};

use super::life::{Ending, Life, live, panic_text};
use super::oracle::{Contents, Evidence, Violation, name};
use super::subject::Subject;
use super::workload::{Content, Settings, Size, Workload};
use crate::workload::random::{Random, split_mix};

/// Choices up to which all subsets of what may survive are tried.
const ALL_SUBSETS: usize = 3;

/// Failures after which a campaign ends: more of them would hardly say more.
pub const MAX_FAILURES: usize = 10;

/// Which steps a life is ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// All of them.
    All,
    /// So many, at random.
    Random(usize),
}

/// How much is tried for each seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Steps of a single thread's life at which it is ended.
    pub steps: Steps,
    /// Lives with faults, and lives with several threads.
    pub lives: usize,
    /// Choices of what survives a crash, beside nothing and everything.
    pub survivors: usize,
    /// Steps at which an opening is cut off, and at which it is made to fail, for every crash.
    pub cut_openings: usize,
    /// Threads of the lives with several.
    pub threads: usize,
    /// Keys.
    pub keys: usize,
    /// Operations of a thread.
    pub operations: usize,
}

/// A defect, and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Where in the seed: scenario, step, survivors.
    pub place: String,
    /// What was wrong.
    pub what: String,
}

/// What was tried, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lives that were lived.
    pub lives: u64,
    /// Operations that were acknowledged in them.
    pub acknowledged: u64,
    /// Operations that returned an error, the device having failed.
    pub failed: u64,
    /// Lives that a crash ended.
    pub crash_points: u64,
    /// Disks that crashes left.
    pub crashes: u64,
    /// Times that a store was opened on one.
    pub openings: u64,
    /// Openings that were cut off by a crash, or by a fault.
    pub cut_openings: u64,
    /// Crashes that tore: some sectors that were not synced survived, and others did not.
    pub torn: u64,
    /// Sectors that survived without a sync.
    pub kept_sectors: u64,
    /// Sectors that did not.
    pub lost_sectors: u64,
    /// Sectors that were written back early.
    pub early_sectors: u64,
    /// Changes of names that survived without a sync.
    pub kept_names: u64,
    /// Changes of names that did not.
    pub lost_names: u64,
    /// Calls that were made to fail.
    pub faults: u64,
    /// Most acknowledged commits that one crash lost.
    pub most_lost: usize,
    /// What was found.
    pub failures: Vec<Failure>,
}

/// What was seen when a disk was opened.
struct Found {
    contents: Contents,
    /// Steps that opening took.
    steps: u64,
    /// The disk, had nothing more become durable since.
    durable: SimDisk,
}

/// What every check of one crash needs.
struct Scene<'a> {
    settings: Settings,
    evidence: &'a Evidence,
    /// Acknowledged commits that may be lost.
    may_lose: usize,
    random: Random,
}

/// One seed under way.
pub struct Campaign<'t, S> {
    seed: u64,
    effort: Effort,
    totals: &'t mut Totals,
    subject: std::marker::PhantomData<fn() -> S>,
}

impl<'t, S: Subject> Campaign<'t, S> {
    /// Tries one seed, and adds what came of it to `totals`. `now_at` is told the places it comes to.
    pub fn run(seed: u64, effort: Effort, totals: &'t mut Totals, now_at: &mut dyn FnMut(&str)) {
        let mut campaign = Self {
            seed,
            effort,
            totals,
            subject: std::marker::PhantomData,
        };
        campaign.alone(now_at);
        for life in 0..effort.lives {
            campaign.faults(life, now_at);
        }
        if effort.threads > 1 {
            for life in 0..effort.lives {
                campaign.threads(life, now_at);
            }
        }
    }

    /// A generator for one place of the seed.
    fn random(&self, place: u64) -> Random {
        Random::new(split_mix(split_mix(self.seed) ^ place))
    }

    fn workload(&self, seed: u64, threads: usize, first_number: u64) -> Workload {
        let size = Size {
            threads,
            keys: self.effort.keys,
            operations: self.effort.operations,
            checkpoints: S::CHECKPOINTS,
            first_number,
        };
        Workload::new(seed, &size)
    }

    /// The disk's habits, which are no faults: early write-back, stale bytes in new files.
    fn habits(random: &mut Random) -> FaultPlan {
        let plan = FaultPlan::new()
            .seed(random.next_u64())
            .write_back_one_in([0, 2, 10][random.below(3) as usize]);
        match random.below(3) {
            0 => plan.stale_bytes(random.next_u64()),
            _ => plan,
        }
    }

    fn alone(&mut self, now_at: &mut dyn FnMut(&str)) {
        let workload = self.workload(self.seed, 1, 1);
        let habits = Self::habits(&mut self.random(1));
        now_at("alone, to its end");
        let steps = self.whole_life(&workload, &habits, "alone");
        for step in self.steps_of(steps, self.effort.steps, &mut self.random(2)) {
            let place = format!("alone, crash at step {step} of {steps}");
            now_at(&place);
            self.guarded(&place, |campaign| {
                let plan = habits.clone().crash_at(step);
                campaign.life_and_crashes(&workload, plan, step, 2, &place);
            });
        }
    }

    fn faults(&mut self, life: usize, now_at: &mut dyn FnMut(&str)) {
        let mut random = self.random(1_000 + life as u64);
        let workload = self.workload(split_mix(self.seed ^ random.next_u64()), 1, 1);
        let plan = Self::habits(&mut random);
        let fault = [Fault::Io, Fault::Full][random.below(2) as usize];
        let (plan, what) = match random.below(3) {
            0 => {
                let number = 1 + random.below(20);
                (plan.fail_sync(number, fault), format!("sync {number} fails"))
            }
            1 => {
                let one_in = 5 + random.below(40);
                (plan.fail_one_in(one_in), format!("one call in {one_in} fails"))
            }
            _ => {
                let bytes = workload.settings.segment_bytes as u64 * (1 + random.below(4)) + 4_096;
                (plan.capacity(bytes), format!("room for {bytes} bytes"))
            }
        };
        let plan = match random.below(2) {
            0 => plan.crash_at(1 + random.below(60)),
            _ => plan,
        };
        let place = format!("faults {life}, {what}");
        now_at(&place);
        self.guarded(&place, |campaign| {
            campaign.life_and_crashes(&workload, plan, 2_000 + life as u64, 1, &place);
        });
    }

    fn threads(&mut self, life: usize, now_at: &mut dyn FnMut(&str)) {
        let mut random = self.random(3_000 + life as u64);
        let seed = split_mix(self.seed ^ random.next_u64());
        let workload = self.workload(seed, self.effort.threads, 1);
        let habits = Self::habits(&mut random);
        now_at("threads, to their end");
        let steps = self.whole_life(&workload, &habits, &format!("threads {life}"));
        for step in self.steps_of(steps, Steps::Random(4), &mut random) {
            let place = format!("threads {life}, crash at step {step} of about {steps}");
            now_at(&place);
            self.guarded(&place, |campaign| {
                let plan = habits.clone().crash_at(step);
                campaign.life_and_crashes(&workload, plan, 4_000 + step, 1, &place);
            });
        }
    }

    /// Numbers from 1 to `steps`, ascending.
    fn steps_of(&self, steps: u64, which: Steps, random: &mut Random) -> Vec<u64> {
        let mut all: Vec<u64> = (1..=steps).collect();
        if let Steps::Random(count) = which {
            random.shuffle(&mut all);
            all.truncate(count);
            all.sort_unstable();
        }
        all
    }

    /// Runs a check, unless enough was found; a panic in it is a failure.
    fn guarded(&mut self, place: &str, check: impl FnOnce(&mut Self)) {
        if self.totals.failures.len() >= MAX_FAILURES {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(self))) {
            self.fail(place, format!("panicked: {}", panic_text(&*panic)));
        }
    }

    fn fail(&mut self, place: &str, what: String) {
        self.totals.failures.push(Failure {
            seed: self.seed,
            place: place.to_owned(),
            what,
        });
    }

    /// Lives a life on this disk, and counts it. Returns it unless something was wrong before any crash.
    fn live(
        &mut self,
        disk: &SimDisk,
        workload: &Workload,
        base: &Contents,
        ending: Ending,
        place: &str,
    ) -> Option<Life> {
        let life = live::<S>(disk, workload, base, ending);
        let tally = disk.tally();
        self.totals.lives += 1;
        self.totals.acknowledged += life.acknowledged;
        self.totals.failed += life.failed;
        self.totals.faults += tally.faults;
        self.totals.early_sectors += tally.early_sectors;
        for trouble in &life.troubles {
            self.fail(place, trouble.clone());
        }
        life.troubles.is_empty().then_some(life)
    }

    /// Lives a life that shuts down; returns how many steps it took.
    fn whole_life(&mut self, workload: &Workload, habits: &FaultPlan, scenario: &str) -> u64 {
        let place = format!("{scenario}, shut down");
        let disk = SimDisk::new();
        disk.follow(habits.clone());
        self.guarded(&place, |campaign| {
            let ending = Ending::ShutDown;
            let Some(life) = campaign.live(&disk, workload, &Contents::new(), ending, &place) else {
                return;
            };
            let mut scene = Scene {
                settings: workload.settings,
                evidence: &life.evidence,
                may_lose: 0,
                random: campaign.random(5),
            };
            let crashed = || disk.crash(&Survivors::Nothing);
            if let Err(what) = campaign.check(&mut scene, &crashed) {
                campaign.fail(&place, what);
            }
        });
        disk.tally().steps
    }

    /// Lives a life by a plan, and checks what may be found after the crash that ends it. `generations` is how many lives
    /// follow one another.
    fn life_and_crashes(
        &mut self,
        workload: &Workload,
        plan: FaultPlan,
        place_number: u64,
        generations: usize,
        place: &str,
    ) {
        let disk = SimDisk::new();
        disk.follow(plan);
        self.crashes_of(&disk, workload, &Contents::new(), place_number, generations, place);
    }

    fn crashes_of(
        &mut self,
        disk: &SimDisk,
        workload: &Workload,
        base: &Contents,
        place_number: u64,
        generations: usize,
        place: &str,
    ) {
        let Some(life) = self.live(disk, workload, base, Ending::PowerOff, place) else {
            return;
        };
        self.totals.crash_points += 1;
        let mut random = self.random(place_number << 8 | generations as u64);
        let survivors = self.survivors(disk.dirty(), &mut random);
        for survivors in &survivors {
            let place = format!("{place}, {survivors:?}");
            let mut scene = self.scene(workload, &life, &mut random);
            let crashed = || disk.crash(survivors);
            self.count_crash(&crashed());
            if let Err(what) = self.check(&mut scene, &crashed) {
                self.fail(&place, what);
            }
        }
        let mut scene = self.scene(workload, &life, &mut random);
        if let Err(what) = self.check_killed(&mut scene, disk) {
            self.fail(&format!("{place}, killed"), what);
        }
        if generations > 1 && random.below(4) == 0 {
            let survivors = survivors[random.below(survivors.len() as u64) as usize];
            self.next_life(disk, survivors, workload, &mut random, generations, place);
        }
    }

    fn scene<'e>(&self, workload: &Workload, life: &'e Life, random: &mut Random) -> Scene<'e> {
        // While a flush runs, as many may come to wait as it makes durable; and each thread counts for itself.
        let threads = workload.threads.len();
        let rounds = if threads == 1 { 1 } else { 2 };
        Scene {
            settings: workload.settings,
            evidence: &life.evidence,
            may_lose: rounds * 2 * workload.most_pending + threads - 1,
            random: Random::new(random.next_u64()),
        }
    }

    /// Goes on from what a crash left.
    fn next_life(
        &mut self,
        disk: &SimDisk,
        survivors: Survivors,
        workload: &Workload,
        random: &mut Random,
        generations: usize,
        place: &str,
    ) {
        let crashed = disk.crash(&survivors);
        let base = match self.open(&crashed, &workload.settings) {
            Ok(found) => found.contents,
            // It was reported where it was first met.
            Err(_) => return,
        };
        let next = self.workload(random.next_u64(), 1, workload.next_number());
        let step = 1 + random.below(40);
        let place = format!("{place}, {survivors:?}, next life, crash at step {step}");
        let crashed = disk.crash(&survivors);
        crashed.follow(Self::habits(random).crash_at(step));
        self.crashes_of(&crashed, &next, &base, random.next_u64(), generations - 1, &place);
    }

    /// Choices of what survives.
    fn survivors(&self, choices: usize, random: &mut Random) -> Vec<Survivors> {
        if choices <= ALL_SUBSETS {
            return (0..1 << choices).map(Survivors::Mask).collect();
        }
        let seeds = (0..self.effort.survivors).map(|_| Survivors::Seed(random.next_u64() >> 32));
        [Survivors::Nothing, Survivors::Everything]
            .into_iter()
            .chain(seeds)
            .collect()
    }

    fn count_crash(&mut self, crashed: &SimDisk) {
        let tally = crashed.tally();
        self.totals.crashes += 1;
        self.totals.torn += u64::from(tally.kept_sectors > 0 && tally.lost_sectors > 0);
        self.totals.kept_sectors += tally.kept_sectors;
        self.totals.lost_sectors += tally.lost_sectors;
        self.totals.kept_names += tally.kept_names;
        self.totals.lost_names += tally.lost_names;
    }

    /// Opens a disk without faults and reads everything, by a scan and key by key.
    fn open(&mut self, disk: &SimDisk, settings: &Settings) -> Result<Found, String> {
        self.totals.openings += 1;
        disk.follow(FaultPlan::new());
        let before = disk.tally().steps;
        let storage = disk.open().map_err(|error| format!("opening failed: {error}"))?;
        let subject = S::open(storage, settings).map_err(|error| format!("opening failed: {error}"))?;
        let steps = disk.tally().steps - before;
        let records = subject
            .scan()
            .map_err(|error| format!("scanning what was recovered failed: {error}"))?;
        let mut contents = Contents::new();
        for (key, bytes) in records {
            let content = Content::from_bytes(&bytes)
                .ok_or_else(|| format!("{} holds {} bytes that are no whole value", name(&key), bytes.len()))?;
            match subject.get(&key) {
                Ok(Some((read, _))) if read == bytes => {}
                other => {
                    let what = other.map(|found| found.map(|(read, timestamp)| (read.len(), timestamp)));
                    return Err(format!("a scan and a get of {} disagree: {what:?}", name(&key)));
                }
            }
            contents.insert(key, content.number);
        }
        // Before the store is closed, which would make more durable.
        let durable = disk.crash(&Survivors::Nothing);
        Ok(Found {
            contents,
            steps,
            durable,
        })
    }

    fn open_again(&mut self, disk: &SimDisk, scene: &Scene<'_>, first: &Contents, when: &str) -> Result<(), String> {
        let found = self
            .open(disk, &scene.settings)
            .map_err(|what| format!("{when}: {what}"))?;
        match difference(first, &found.contents) {
            None => Ok(()),
            Some(difference) => Err(format!("{when}, something else is found: {difference}")),
        }
    }

    /// Checks what a crash left; `crashed` makes another copy of it with every call.
    fn check(&mut self, scene: &mut Scene<'_>, crashed: &dyn Fn() -> SimDisk) -> Result<(), String> {
        let disk = crashed();
        let found = self.open(&disk, &scene.settings)?;
        self.judge(scene, &found.contents)?;
        let first = &found.contents;
        self.open_again(&found.durable, scene, first, "after a crash right after opening")?;
        self.open_again(&disk, scene, first, "when opened a second time")?;
        for _ in 0..self.effort.cut_openings {
            let step = 1 + scene.random.below(found.steps.max(1));
            self.cut_opening(scene, crashed, first, step)?;
            self.failed_opening(scene, crashed, first, step)?;
        }
        self.opening_without_room(scene, crashed, first)
    }

    fn judge(&mut self, scene: &Scene<'_>, found: &Contents) -> Result<(), String> {
        let told = |violation: Violation| format!("{violation} ({})", scene.evidence.story_of(violation.key()));
        let cut = scene.evidence.judge(found).map_err(told)?;
        self.totals.most_lost = self.totals.most_lost.max(cut.lost);
        if cut.lost > scene.may_lose {
            return Err(format!(
                "{} acknowledged commits are lost, and at most {} may be",
                cut.lost, scene.may_lose
            ));
        }
        Ok(())
    }

    /// A crash during opening.
    fn cut_opening(
        &mut self,
        scene: &mut Scene<'_>,
        crashed: &dyn Fn() -> SimDisk,
        first: &Contents,
        step: u64,
    ) -> Result<(), String> {
        let disk = crashed();
        let seed = scene.random.next_u64() >> 32;
        disk.follow(FaultPlan::new().seed(seed).crash_at(step));
        self.totals.cut_openings += 1;
        let opened = disk.open().and_then(|storage| S::open(storage, &scene.settings));
        disk.power_off();
        drop(opened);
        let survivors =
            [Survivors::Nothing, Survivors::Everything, Survivors::Seed(seed)][scene.random.below(3) as usize];
        let when = format!("after opening was cut off at step {step}, {survivors:?}");
        self.open_again(&disk.crash(&survivors), scene, first, &when)
    }

    /// A call that fails during opening. Its process ends, and so does the machine's life: what a failed sync leaves in
    /// memory is not to be trusted.
    fn failed_opening(
        &mut self,
        scene: &mut Scene<'_>,
        crashed: &dyn Fn() -> SimDisk,
        first: &Contents,
        step: u64,
    ) -> Result<(), String> {
        let disk = crashed();
        let seed = scene.random.next_u64() >> 32;
        let fault = [Fault::Io, Fault::Full][scene.random.below(2) as usize];
        disk.follow(FaultPlan::new().seed(seed).fail_at(step, fault));
        self.totals.cut_openings += 1;
        let opened = disk.open().and_then(|storage| S::open(storage, &scene.settings));
        self.totals.faults += disk.tally().faults;
        disk.power_off();
        drop(opened);
        let when = format!("after step {step} of opening failed ({fault:?})");
        self.open_again(&disk.crash(&Survivors::Seed(seed)), scene, first, &when)
    }

    /// Opening on a full disk either fails or succeeds, and changes nothing; it succeeds once there is room.
    fn opening_without_room(
        &mut self,
        scene: &Scene<'_>,
        crashed: &dyn Fn() -> SimDisk,
        first: &Contents,
    ) -> Result<(), String> {
        let disk = crashed();
        disk.follow(FaultPlan::new().capacity(0));
        self.totals.cut_openings += 1;
        drop(disk.open().and_then(|storage| S::open(storage, &scene.settings)));
        self.totals.faults += disk.tally().faults;
        self.open_again(&disk, scene, first, "after opening without room")
    }

    /// A process that dies leaves what it stored, and the power may fail later.
    fn check_killed(&mut self, scene: &mut Scene<'_>, disk: &SimDisk) -> Result<(), String> {
        let found = self.open(&disk.kill(), &scene.settings)?;
        self.judge(scene, &found.contents)?;
        if disk.tally().faults > 0 {
            // Pages that a failed sync has left count as clean: they can be read until the power fails, and no sync of
            // whoever comes next writes them.
            return Ok(());
        }
        let when = "after the power failed too";
        self.open_again(&found.durable, scene, &found.contents, when)
    }
}

/// Says how two contents differ, if they do.
fn difference(first: &Contents, second: &Contents) -> Option<String> {
    let keys = first.keys().chain(second.keys());
    let differing = keys.into_iter().find(|key| first.get(*key) != second.get(*key))?;
    let value = |contents: &Contents| match contents.get(differing) {
        Some(number) => format!("value {number}"),
        None => "nothing".to_owned(),
    };
    Some(format!(
        "{} held {}, now {}",
        name(differing),
        value(first),
        value(second)
    ))
}
