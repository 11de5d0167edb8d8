//! One member's many lives, each ended by SIGKILL.

use crate::{Figures, Load, Start};

/// Writers of a life.
const WRITERS: usize = 16;

/// A directory whose member is started, put under load, killed, and judged by its
/// next start.
pub struct Lives {
    start: Start,
    load: Load,
    figures: Figures,
    runtime: tokio::runtime::Runtime,
}

impl Lives {
    /// The member that `start` starts; the same load for the same `seed`.
    ///
    /// # Panics
    /// When the system gives no event loop.
    pub fn new(seed: u64, start: Start) -> Lives {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Lives {
            start,
            load: Load::new(seed, WRITERS),
            figures: Figures::default(),
            runtime: runtime.expect("an event loop"),
        }
    }

    /// Starts the member, holds it to what its former life promised, and kills it once
    /// it has acknowledged `count` more operations.
    ///
    /// # Errors
    /// What it does not hold.
    ///
    /// # Panics
    /// When it does not start, or its binary is missing.
    pub fn live(&mut self, count: usize) -> Result<(), String> {
        let member = self.start.run().expect("the binary is there");
        let endpoint = member.endpoint();
        let Lives { load, figures, runtime, .. } = self;
        runtime.block_on(async {
            figures.add(load.verify(&endpoint).await?);
            load.run(&endpoint, count, || member.kill()).await?;
            Ok(())
        })
    }

    /// Judges the last life, and ends the member as a signal does.
    ///
    /// # Errors
    /// What it does not hold.
    ///
    /// # Panics
    /// As [`Lives::live`].
    pub fn end(&mut self) -> Result<(), String> {
        let member = self.start.run().expect("the binary is there");
        self.figures.add(self.runtime.block_on(self.load.verify(&member.endpoint()))?);
        member.stop();
        Ok(())
    }

    /// Sums over all lives that were judged.
    pub fn figures(&self) -> Figures {
        self.figures
    }
}
