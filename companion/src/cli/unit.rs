//! `unit` and `conflicts`: the members of the group, and the records that lost a conflict between them.

use clap::Subcommand;
use serde_json::{Map, Value};
use unitring_protocol::ids::UnitId;

use super::sure::Sure;
use super::values;
use crate::client::Target;
use crate::client::ask::{AskError, ask, call, escape, listed, number, text};
use crate::states::LinkState;

/// What is done to units.
#[derive(Debug, Subcommand)]
pub(crate) enum UnitCommand {
    /// Show the other units and the state of the links to them.
    List(ListUnits),
    /// Remove a unit from the group for good, in all units: no outbox keeps changes for it any more.
    Remove {
        /// Which.
        #[command(flatten)]
        one: OneUnit,
        /// Whether to ask first.
        #[command(flatten)]
        sure: Sure,
    },
    /// Add a removed unit to the group again; its store must be empty.
    Add(OneUnit),
    /// Make the members and limits in this companion's configuration those of its unit.
    Agree(Target),
    /// Repair the store of this unit.
    Repair(Repair),
}

/// How to show units.
#[derive(Debug, clap::Args)]
pub(crate) struct ListUnits {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// Which unit.
#[derive(Debug, clap::Args)]
pub(crate) struct OneUnit {
    /// The unit, as in sync.peers.
    #[arg(value_parser = values::name::<UnitId>)]
    pub unit: String,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// What is mended.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Mend {
    /// Recompute every digest, and forget records whose value is gone: repairs from other units bring them back.
    #[arg(long)]
    pub recount: bool,
    /// Reset logical clocks that are ahead of the time: records written by such a clock get a current version.
    /// Correct the machine's clock first, and run this in every unit that took such changes.
    #[arg(long)]
    pub clocks: bool,
}

/// What `unit repair` does.
#[derive(Debug, clap::Args)]
pub(crate) struct Repair {
    /// What.
    #[command(flatten)]
    pub mend: Mend,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// What `conflicts` asks.
#[derive(Debug, clap::Args)]
pub(crate) struct Conflicts {
    /// Maximum number of conflicts.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// Runs the command, and prints what it did.
///
/// # Errors
/// [`AskError`].
pub(crate) fn run(command: &UnitCommand) -> Result<String, AskError> {
    match command {
        UnitCommand::List(ListUnits { json, target }) => {
            let units = ask(target, "/v1/units")?;
            if units.get("sync").is_none() {
                return Err(AskError::NoCompanion(target.url.clone()));
            }
            let links = units.pointer("/sync/links").cloned().unwrap_or_default();
            if *json {
                return Ok(format!("{links:#}\n"));
            }
            let lines = links.as_object().into_iter().flatten();
            let lines: String = lines.map(|(unit, link)| line(unit, link)).collect();
            Ok(or_words(lines, "this unit has no peers\n"))
        }
        UnitCommand::Remove { one, sure } => {
            let OneUnit { unit, target } = one;
            sure.ask(&format!(
                "remove unit {unit} from the group for good, in all units"
            ))?;
            call(target, "DELETE", &path(unit), None)?;
            Ok(format!(
                "{unit} is removed from the group: stop its companions, and take it out of sync.peers\n"
            ))
        }
        UnitCommand::Agree(target) => {
            call(target, "POST", "/v1/agree", None)?;
            Ok(
                "this companion's configuration is the unit's now: restart those that differ\n"
                    .to_owned(),
            )
        }
        UnitCommand::Repair(Repair { mend, target }) => {
            let (recount, clocks) = (mend.recount, mend.clocks);
            let path = format!("/v1/repair?recount={recount}&clocks={clocks}");
            let done = call(target, "POST", &path, None)?;
            let count = |at: &str| {
                done.pointer(at)
                    .and_then(Value::as_array)
                    .map_or(0, Vec::len)
            };
            let repaired = format!(
                "{} clocks set back, {} records with a new version, {} digests were wrong, \
                 {} records had lost their value\n",
                count("/clocks"),
                number(&done, "/records"),
                count("/recounted"),
                number(&done, "/lost"),
            );
            match done.pointer("/failed").and_then(Value::as_object) {
                Some(failed) if !failed.is_empty() => Err(not_recounted(&repaired, failed)),
                _ => Ok(repaired),
            }
        }
        UnitCommand::Add(OneUnit { unit, target }) => {
            call(target, "PUT", &path(unit), None)?;
            Ok(format!("{unit} is in the group again\n"))
        }
    }
}

/// Some buckets cannot be read; the others were repaired.
fn not_recounted(repaired: &str, failed: &Map<String, Value>) -> AskError {
    let lines = failed.iter().map(|(bucket, why)| {
        let why = why.as_str().unwrap_or_default();
        format!("\nbucket {bucket} could not be recounted: {why}")
    });
    let lines: String = lines.collect();
    AskError::Refused(format!("{}{lines}", repaired.trim_end()))
}

fn path(unit: &str) -> String {
    format!("/v1/units/{}", escape(unit))
}

/// A unit that is not heard.
pub(super) fn silent(unit: &str, silent_ms: u64) -> String {
    let seconds = silent_ms / 1_000;
    format!(
        "no message from {unit} for {seconds} s: its companion is away, cannot send here, or does not name this unit \
         in sync.peers"
    )
}

/// The state of a link; an answer without one is no good state.
pub(super) fn state(link: &Value) -> LinkState {
    text(link, "/state").to_owned().into()
}

/// How a link is, in one line.
pub(super) fn line(unit: &str, link: &Value) -> String {
    let mut line = format!("{unit}: {}", state(link));
    if let Some(silent_ms) = link.pointer("/silent_ms").and_then(Value::as_u64) {
        line.push_str(&format!(", {}", silent(unit, silent_ms)));
    }
    if link.pointer("/lag/p50_ms").is_some() {
        let (half, most) = (number(link, "/lag/p50_ms"), number(link, "/lag/p99_ms"));
        line.push_str(&format!(", its changes take {half} ms (p99 {most} ms)"));
    }
    if link.pointer("/compared/at_ms").is_some() {
        let differ = link.pointer("/compared/diverged").and_then(Value::as_array);
        line.push_str(&format!(
            ", {} of its changes missing, {} of {} comparable buckets differ",
            number(link, "/compared/missing"),
            differ.map_or(0, Vec::len),
            number(link, "/compared/comparable"),
        ));
    }
    if let Some(skew) = link.pointer("/clock_skew_ms").and_then(Value::as_i64) {
        line.push_str(&format!(", its clock is {skew} ms ahead"));
        if link.pointer("/clock_skew_alarm") == Some(&Value::Bool(true)) {
            line.push_str(", over the limit (sync.skew_max)");
        }
    }
    line.push('\n');
    line
}

/// The last conflicts, a line each.
///
/// # Errors
/// [`AskError`].
pub(crate) fn conflicts(asked: &Conflicts) -> Result<String, AskError> {
    let answer = ask(
        &asked.target,
        &format!("/v1/conflicts?limit={}", asked.limit),
    )?;
    let conflicts = listed(&asked.target, &answer, "")?;
    if asked.json {
        return Ok(format!("{answer:#}\n"));
    }
    let line = |conflict: &Value| {
        format!(
            "{}/{}: {} lost against {}\n",
            text(conflict, "/record/dataset"),
            text(conflict, "/record/key"),
            text(conflict, "/lost"),
            text(conflict, "/kept"),
        )
    };
    let lines: String = conflicts.iter().map(line).collect();
    Ok(or_words(lines, "no conflict is known\n"))
}

/// An empty list is shown in words: no output may look like a mistake.
fn or_words(lines: String, words: &str) -> String {
    match lines.is_empty() {
        true => words.to_owned(),
        false => lines,
    }
}
