//! The kinds of faults, each with its name, its counter in the report and a description of one line. Their implementations are in
//! `faults`, one file each.

use clap::ValueEnum;

/// Lists the kinds once: the variant, its name on the command line, and its description.
macro_rules! fault_kinds {
    ($($kind:ident $name:literal $description:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
        pub enum FaultKind {
            $(#[doc = $description] #[value(name = $name)] $kind,)*
        }

        impl FaultKind {
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// The name of its counter in the report.
            pub const fn counter(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!("fault: ", $name),)*
                }
            }

            /// Its description, in one line.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$kind => $description,)*
                }
            }
        }
    };
}

fault_kinds! {
    Kill "kill" "A member's process ends; what it wrote stays, synced or not.",
    CrashLoop "crash-loop" "A member's process ends again and again while it starts.",
    PowerLoss "power-loss" "A member's machine loses power: what it had not synced is gone, torn, or there in any order.",
    Pause "pause" "A member stands still for seconds and goes on later, as if nothing had happened.",
    LongPause "long-pause" "A member stands still for up to two minutes.",
    Stop "stop" "A member is asked to stop, does so in order, and starts again after a while.",
    RollingRestart "rolling-restart" "All members are asked to stop and started again, one after another.",
    SyncFailure "sync-failure" "A disk fails to sync; what was written before may then be lost with the power.",
    ReadError "read-error" "A disk fails to read.",
    WriteError "write-error" "A disk fails to write.",
    DiskFull "disk-full" "A disk has no space left.",
    BitRot "bit-rot" "Bits flip in the files of a member that does not run.",
    BlankDisk "blank-disk" "A member starts with an empty disk in place of its own.",
    SwappedDisks "swapped-disks" "Two members start with each other's disks.",
    Partition "partition" "Members are cut into two groups that hear nothing of each other.",
    OneWay "one-way" "One direction between two members is silent.",
    IsolateLeader "isolate-leader" "The leader is cut off from the other members, but not from its clients.",
    Flap "flap" "A link between two members comes and goes.",
    Clog "clog" "A machine hears nobody, or is heard by nobody, or both.",
    Swizzle "swizzle" "Machines are clogged one after another, and freed in another order.",
    ClientCut "client-cut" "Clients and a member lose sight of each other, one way or both.",
    Corruption "corruption" "Bits flip on the way between two members.",
    HalfOpen "half-open" "Connections are forgotten on the way; neither end is told.",
    LateConnection "late-connection" "A connection that a member has given up reaches another one behind the one that they use.",
    TransferCut "transfer-cut" "A member that lags is brought a snapshot, and its links are cut while that is on its way.",
    OlderDisk "older-disk" "A member starts with an older copy of its own disk.",
    SlowLinks "slow-links" "What members send each other takes up to 300 ms longer, each way.",
    NarrowLink "narrow-link" "A link between two members carries little.",
    SlowReader "slow-reader" "A member reads slowly what it is sent.",
    ClockJump "clock-jump" "A member's wall clock jumps, forwards or back.",
    Suspend "suspend" "A member's machine is suspended: its monotonic clock does not see the time that passes.",
    EngineWork "engine-work" "A storage engine makes tables of its memory and merges them.",
    EngineError "engine-error" "A storage engine's own thread meets an error of the disk.",
    CrashPoint "crash-point" "A member's machine stops at one of its calls to the disk.",
    LostSector "lost-sector" "A machine loses power, and a sector that had been synced is gone.",
}
