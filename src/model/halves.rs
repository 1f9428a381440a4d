//! The copies in float16 of a model's matrices, which mixed precision multiplies with.

use super::{Config, ParameterGroup, parameter_groups};
use crate::error::{Advice, Error, Result};
use crate::graph::{Graph, Plan, Precision, Program, Session, Step, ops};
use crate::kernels::tune::Tuning;
use crate::kernels::{Scalars, Sizes};

/// Keeps the copies up to date with what the host gives the session. (What training changes, it
/// copies itself.)
pub struct Halves {
    program: Program,
    /// As of which writes of the host they are.
    writes: u64,
}

impl Halves {
    /// Prepares the copies, where this precision has any.
    ///
    /// # Errors
    /// Out of memory, a kernel that does not compile.
    pub fn new(
        session: &mut Session,
        config: &Config,
        precision: Precision,
    ) -> Result<Option<Self>> {
        if precision == Precision::F32 {
            return Ok(None);
        }
        session.device.expect_float16()?;
        if session.tuning.set_aside.contains(Tuning::FLOAT16) {
            return Err(Error::device(format!(
                "{}: `crisp doctor` has found kernels wrong here that store float16",
                session.device.adapter.name
            ))
            .advice(Advice::SinglePrecision));
        }
        let plan = Self::plan(config, &session.tuning)?;
        let program = Program::new(session, plan, 0)?;
        Ok(Some(Self { program, writes: 0 }))
    }

    /// Makes them, if the host has given the session something since they were made.
    ///
    /// # Errors
    /// The device failed.
    pub fn refresh(&mut self, session: &Session) -> Result<()> {
        let writes = session.store.writes();
        if self.writes != writes {
            let (sizes, scalars) = (Sizes::default(), Scalars::default());
            self.program.run(session, &Step { sizes, scalars, inputs: &[] })?;
            self.writes = writes;
        }
        Ok(())
    }

    /// Bytes that this takes on the device, besides the copies.
    pub fn own_bytes(&self) -> u64 {
        self.program.plan().own_bytes(0)
    }

    /// Copies every matrix: those are the parameters that decay. Needs no device.
    ///
    /// # Errors
    /// Parameters that kernels cannot count.
    pub fn plan(config: &Config, tuning: &Tuning) -> Result<Plan> {
        let mut graph = Graph::new();
        for ParameterGroup { group, decays } in parameter_groups(config) {
            if decays {
                let matrices = graph.parameter(&group.name, &[group.elements()]);
                ops::keep_half(&mut graph, matrices);
            }
        }
        Plan::new(&graph, tuning.clone(), Sizes::default(), &[])
    }
}
