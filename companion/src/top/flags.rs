//! The flags of `unitring top`.

use std::time::Duration;

use clap::Args;

use super::View;
use crate::client::Target;
use crate::config::duration_within;

/// The shortest and the longest time between two samples.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// What `top` shows, and how.
#[derive(Debug, Args)]
pub(crate) struct TopFlags {
    /// The first view. Default: with --service its instances, otherwise the services.
    #[arg(long, value_enum)]
    pub view: Option<View>,
    /// Only this service.
    #[arg(long)]
    pub service: Option<String>,
    /// Order the rows by this column of the view: its title in small letters, with - for a space.
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
    /// Reverse the order.
    #[arg(long)]
    pub reverse: bool,
    /// Also show each instance's share of the keys and its capacity: the companion builds a ring for each sample.
    #[arg(long)]
    pub shares: bool,
    /// Time between two samples, such as 500ms or 5s.
    #[arg(long, default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Print this number of frames as text, without a terminal, then end. The first frame has no rates.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub frames: Option<u32>,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

fn interval(text: &str) -> Result<Duration, String> {
    duration_within(text, INTERVAL_MIN..=INTERVAL_MAX)
}
