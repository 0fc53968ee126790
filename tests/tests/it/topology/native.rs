//! The hosts that the native module chose inside Envoy, beside those of the policy that it stands for.
//!
//! A module can name a healthy host only, and is not shown everything. So it may differ, in the ways named here and
//! in no other.

use anyhow::Result;

use super::cluster::Cluster;
use super::compare::PLACED;
use super::model::{Model, Owner, View};
use super::pages::Pages;

/// A cluster in one state, as a module sees it.
#[derive(Debug)]
pub(super) struct Native {
    shown: Model,
    /// Places the keys of an unhealthy owner.
    rescue: Model,
}

impl Native {
    pub(super) fn read(pages: &Pages, cluster: &Cluster) -> Result<Self> {
        let read = |view| Model::read_as(view, pages, cluster.weighted_priority_health);
        Ok(Self {
            shown: read(View::Modules)?,
            rescue: read(View::ModulesWithoutPanic)?,
        })
    }

    /// The outcome for a key that the module gave to this host; an error if it is not allowed.
    pub(super) fn verdict(
        &self,
        model: &Model,
        hash: u64,
        chosen: Option<&str>,
    ) -> Result<&'static str, String> {
        let (envoys, shown) = (model.owner(hash), self.shown.owner(hash));
        let why = |error: String| {
            format!("{error}; the model says {envoys:?}, by what a module is shown {shown:?}")
        };
        let outcome = self.outcome(&shown, hash, chosen).map_err(why)?;
        // The module may lack parts of the state; it acted correctly on the parts that it has.
        Ok(match outcome {
            PLACED if envoys != shown => "excluded hosts, which a module is not shown",
            outcome => outcome,
        })
    }

    /// The outcome where a module is shown that this is the owner.
    fn outcome(
        &self,
        shown: &Owner,
        hash: u64,
        chosen: Option<&str>,
    ) -> Result<&'static str, String> {
        match (shown, chosen) {
            (Owner::Host(owner), Some(chosen)) if owner == chosen => Ok(PLACED),
            (Owner::Host(owner), _) if self.shown.may_be_unhealthy(hash, owner) => {
                match (self.rescue.owner(hash), chosen) {
                    (Owner::Host(owner), Some(chosen)) if owner == chosen => {
                        Ok("its owner is not healthy: that among the healthy")
                    }
                    (Owner::Host(owner), _) => Err(format!("not {owner}, its healthy owner")),
                    (Owner::Nobody | Owner::Unknown(_), _) => {
                        self.spare(chosen, "its owner is not healthy: a healthy host")
                    }
                }
            }
            (Owner::Host(_), _) => Err("not its owner".to_owned()),
            (Owner::Unknown(_), Some(chosen)) if self.shown.may_choose(hash, chosen) => {
                Ok("its owner is not known: a host of its ring")
            }
            // It may be one that is not healthy.
            (Owner::Unknown(_), Some(chosen)) if self.rescue.may_choose(hash, chosen) => {
                Ok("its owner is not known: a host of the ring of the healthy")
            }
            (Owner::Unknown(_), _) => self.spare(chosen, "its owner is not known: a healthy host"),
            (Owner::Nobody, _) => self.spare(chosen, "nobody by Envoy: a healthy host"),
        }
    }

    /// A key that no ring has a healthy host for goes to the first priority with a healthy host.
    fn spare(&self, chosen: Option<&str>, sight: &'static str) -> Result<&'static str, String> {
        match (self.shown.first_healthy(), chosen) {
            (None, None) => Ok("nobody"),
            (Some(healthy), Some(chosen)) if healthy.contains(chosen) => Ok(sight),
            (healthy, _) => Err(format!("not one of {healthy:?}")),
        }
    }
}
