//! Mutants of the protocol: barriers, journal writes, directions, and the reading of the journal.

use super::Group;

pub(super) const GROUPS: &[Group] = &[
    Group {
        file: "src/transaction/state.rs",
        mutants: &[
            // Barriers.
            (
                "no barrier before the first step",
                "E::Append(Record::Prepared { plan, plan_size, steps }), @{E::SyncAll}@, E::Append(Record::Started)",
                "E::Append(Record::Started)",
            ),
            (
                "before the first step only the journal is durable",
                "E::Append(Record::Prepared { plan, plan_size, steps }), @{E::SyncAll}@, E::Append(Record::Started)",
                "E::SyncJournal",
            ),
            (
                "the barrier before the first step stands before the record",
                "@{out.extend([
                    E::Append(Record::Prepared { plan, plan_size, steps }), E::SyncAll, E::Append(Record::Started),
                ]);}@",
                "out.extend([E::SyncAll, E::Append(Record::Prepared { plan, plan_size, steps })]);",
            ),
            (
                "applying is resumed without a barrier",
                "@{out.extend([E::SyncAll, E::Survey]);}@",
                "out.extend([E::Survey]);",
            ),
            (
                "applying is resumed on a durable journal only",
                "@{out.extend([E::SyncAll, E::Survey]);}@",
                "out.extend([E::SyncJournal, E::Survey]);",
            ),
            (
                "a counted boot is not durable",
                "(S::Trial { facts, attempt, .. }, I::Resume { session }) => {
                    @{out.extend([E::Append(Record::Trying { attempt: attempt + 1, session }), E::SyncJournal]);}@",
                "out.extend([E::Append(Record::Trying { attempt: attempt + 1, session })]);",
            ),
            (
                "going back is resumed without a barrier",
                "(S::Reverting { facts, .. }, I::Resume { .. }) => { @{out.push(E::SyncJournal);}@",
                "",
            ),
            (
                "a decision is swept after without a barrier",
                "(S::Closing(outcome), I::Resume { .. }) => { @{out.extend([E::SyncJournal, E::Sweep]);}@",
                "out.extend([E::Sweep]);",
            ),
            (
                "a confirmation is not durable",
                "@{out.extend([Effect::Append(Record::Confirmed), Effect::SyncJournal, Effect::Sweep]);}@",
                "out.extend([Effect::Append(Record::Confirmed), Effect::Sweep]);",
            ),
            (
                "the sweep comes before the barrier of the confirmation",
                "@{out.extend([Effect::Append(Record::Confirmed), Effect::SyncJournal, Effect::Sweep]);}@",
                "out.extend([Effect::Append(Record::Confirmed), Effect::Sweep, Effect::SyncJournal]);",
            ),
            (
                "the confirmation is written after its barrier",
                "@{out.extend([Effect::Append(Record::Confirmed), Effect::SyncJournal, Effect::Sweep]);}@",
                "out.extend([Effect::SyncJournal, Effect::Append(Record::Confirmed), Effect::Sweep]);",
            ),
            (
                "no barrier between the steps and the record of them",
                "Effect::Settle(super::Direction::Forward), @{Effect::SyncAll}@, Effect::Append(Record::Applied { session })",
                "Effect::Settle(super::Direction::Forward)",
            ),
            (
                "the record of the steps is durable, the steps are not",
                "Effect::Settle(super::Direction::Forward), @{Effect::SyncAll}@, Effect::Append(Record::Applied { session })",
                "Effect::SyncJournal",
            ),
            (
                "the record of the steps is written before their barrier",
                "@{out.extend([
                    Effect::Settle(super::Direction::Forward),
                    Effect::SyncAll,
                    Effect::Append(Record::Applied { session }),
                ]);}@",
                "out.extend([
                    Effect::Settle(super::Direction::Forward),
                    Effect::Append(Record::Applied { session }),
                    Effect::SyncAll,
                ]);",
            ),
            (
                "the times of directories are set after the barrier",
                "@{out.extend([
                    Effect::Settle(super::Direction::Forward),
                    Effect::SyncAll,
                    Effect::Append(Record::Applied { session }),
                ]);}@",
                "out.extend([
                    Effect::SyncAll,
                    Effect::Settle(super::Direction::Forward),
                    Effect::Append(Record::Applied { session }),
                ]);",
            ),
            ("a trial is not durable", "if self.trial { @{out.push(Effect::SyncJournal);}@", ""),
            (
                "the direction is not durable before the first step back",
                "@{out.extend([Effect::Append(Record::Revert { cause: code, detail }), Effect::SyncJournal]);}@",
                "out.extend([Effect::Append(Record::Revert { cause: code, detail })]);",
            ),
            (
                "the direction is written after its barrier",
                "@{out.extend([Effect::Append(Record::Revert { cause: code, detail }), Effect::SyncJournal]);}@",
                "out.extend([Effect::SyncJournal, Effect::Append(Record::Revert { cause: code, detail })]);",
            ),
            (
                "no barrier between the steps back and the record of them",
                "Effect::Settle(super::Direction::Backward), @{Effect::SyncAll}@, Effect::Append(Record::Reverted)",
                "Effect::Settle(super::Direction::Backward)",
            ),
            (
                "the record of the steps back is durable, the steps are not",
                "Effect::Settle(super::Direction::Backward), @{Effect::SyncAll}@, Effect::Append(Record::Reverted)",
                "Effect::SyncJournal",
            ),
            (
                "the record of the steps back is written before their barrier",
                "Effect::Settle(super::Direction::Backward), @{Effect::SyncAll}@, Effect::Append(Record::Reverted)",
                "Effect::Append(Record::Reverted)",
            ),
            (
                "the end of going back is not durable",
                "Effect::Append(Record::Reverted), @{Effect::SyncJournal}@, Effect::Sweep",
                "Effect::Settle(super::Direction::Backward)",
            ),
            (
                "the sweep comes before the barrier of going back",
                "Effect::Append(Record::Reverted), @{Effect::SyncJournal}@, Effect::Sweep",
                "Effect::Sweep",
            ),
            // Journal writes.
            (
                "the transaction begins after its content is stored",
                "@{out.extend([E::Append(begin), E::Stage]);}@",
                "out.extend([E::Stage, E::Append(begin)]);",
            ),
            (
                "no record of what begins",
                "@{out.extend([E::Append(begin), E::Stage]);}@",
                "{ let _ = begin; out.extend([E::Stage]); }",
            ),
            (
                "no record of the plan",
                "out.extend([ @{E::Append(Record::Prepared { plan, plan_size, steps })}@, E::SyncAll",
                "{ let _ = (plan, plan_size); E::SyncAll }",
            ),
            ("no record that steps are taken", "E::SyncAll, @{E::Append(Record::Started)}@,", "E::SyncAll"),
            (
                "no record that all steps are taken",
                "Effect::SyncAll, @{Effect::Append(Record::Applied { session })}@,",
                "{ let _ = session; Effect::SyncAll }",
            ),
            (
                "no record of the confirmation",
                "out.extend([ @{Effect::Append(Record::Confirmed)}@, Effect::SyncJournal, Effect::Sweep]);",
                "Effect::SyncJournal",
            ),
            (
                "no record of a boot",
                "(S::Trial { facts, attempt, .. }, I::Resume { session }) => {
                    @{out.extend([E::Append(Record::Trying { attempt: attempt + 1, session }), E::SyncJournal]);}@",
                "out.extend([E::SyncJournal]);",
            ),
            (
                "no record of the direction",
                "@{out.extend([Effect::Append(Record::Revert { cause: code, detail }), Effect::SyncJournal]);}@",
                "{ let _ = (code, detail); out.extend([Effect::SyncJournal]); }",
            ),
            (
                "no record that all is taken back",
                "Effect::SyncAll, @{Effect::Append(Record::Reverted)}@, Effect::SyncJournal",
                "Effect::SyncAll",
            ),
            ("no record of the end", "@{out.push(E::Append(Record::End));}@", ""),
            // Decisions.
            (
                "recovery goes on without looking",
                "@{out.extend([E::SyncAll, E::Survey]);}@ S::Applying { facts: Facts { session, ..facts }, next: 0 }",
                "{ out.push(E::SyncAll); return Ok(Facts { session, ..facts }.forward(0, out)); }",
            ),
            (
                "recovery goes forward without the new content",
                "(Survey::Unstaged, _) => @{facts.revert(Cause::new(\"recovery.unstaged\", \"new content is missing\"), out)}@,",
                "facts.forward(0, out)",
            ),
            (
                "recovery goes forward although it is to go back",
                "(Survey::Ready, Recovery::Backward) => {
                    @{facts.revert(Cause::new(\"recovery.backward\", \"as configured\"), out)}@ }",
                "facts.forward(0, out)",
            ),
            (
                "going back is resumed by going forward",
                "(S::Reverting { facts, .. }, I::Resume { .. }) => { out.push(E::SyncJournal);
                @{facts.backward(facts.steps, out)}@",
                "facts.forward(0, out)",
            ),
            (
                "going back is resumed in its middle",
                "(S::Reverting { facts, .. }, I::Resume { .. }) => { out.push(E::SyncJournal);
                @{facts.backward(facts.steps, out)}@",
                "facts.backward(facts.steps / 2, out)",
            ),
            (
                "one step back is left out",
                "(S::Reverting { facts, left }, I::Stepped) if left > 0 => @{facts.backward(left - 1, out)}@,",
                "facts.backward(left.saturating_sub(2), out)",
            ),
            (
                "one step is left out",
                "if next < facts.steps => @{facts.forward(next + 1, out)}@,",
                "facts.forward(next + 2, out)",
            ),
            (
                "after a failed step nothing is taken back",
                "(S::Applying { facts, .. }, I::Failed(cause)) => @{facts.revert(cause, out)}@,",
                "{ let _ = cause; Facts { steps: 0, ..facts }.forward(0, out) }",
            ),
            (
                "a rejected trial stays",
                "(S::Trial { facts, .. }, I::Reject(cause)) => @{facts.revert(cause, out)}@,",
                "{ let _ = (facts, cause); Self::confirm(out) }",
            ),
            (
                "a boot is counted twice",
                "(S::Trial { session: seen, .. }, I::Resume { session }) if @{seen == session}@ => {",
                "false",
            ),
            (
                "no boot is counted",
                "(S::Trial { session: seen, .. }, I::Resume { session }) if @{seen == session}@ => {",
                "true",
            ),
            ("a trial is resumed without a barrier", "if seen == session => { @{out.push(E::SyncJournal);}@", ""),
            (
                "a trial that cannot be taken back is told of at every boot",
                "I::Hold { session }) if facts.trial && attempt >= facts.attempts => { if @{attempt > facts.attempts}@ {",
                "false",
            ),
            (
                "a trial takes a boot more",
                "I::Resume { .. }) if @{attempt >= facts.attempts}@ => {",
                "attempt > facts.attempts",
            ),
            (
                "what needs no trial waits for one",
                "(S::Trial { facts, .. }, I::Resume { .. }) if @{!facts.trial}@ => Self::confirm(out),",
                "false",
            ),
            (
                "what failed before the first step is kept",
                "(S::Preparing(_), I::Failed(_) | I::Resume { .. }) => { out.push(E::Sweep);
                @{S::Closing(Outcome::Abandoned)}@",
                "S::Closing(Outcome::Kept)",
            ),
            (
                "the journal forgets that it goes back",
                "(S::Applying { facts, .. } | S::Trial { facts, .. }, R::Revert { .. }) => {
                @{S::Reverting { facts, left: facts.steps }}@",
                "S::Applying { facts, next: 0 }",
            ),
            (
                "the journal forgets that the trial has begun",
                "(S::Applying { facts, .. }, R::Applied { session }) => @{S::Trial { facts, attempt: 0, session: *session }}@,",
                "{ let _ = session; S::Applying { facts, next: 0 } }",
            ),
        ],
    },
    Group {
        file: "src/transaction/step.rs",
        mutants: &[
            (
                "an undo takes the steps in the order of going forward",
                "@{self.steps.into_iter().rev().map(Step::inverse).collect()}@",
                "self.steps.into_iter().map(Step::inverse).collect()",
            ),
            ("an undo mistakes the inodes", "before_inode: @{self.after_inode}@,", "self.before_inode"),
            ("any plan makes sense", "if @{!sound}@ || step.root >= limits::ROOTS {", "false"),
            ("the magic of a plan is not looked at", "(policy, @{header.magic == v1::PLAN_MAGIC}@)", "true"),
        ],
    },
    Group {
        file: "src/transaction/plan.rs",
        mutants: &[
            (
                "a directory goes before what is in it",
                "@{order.extend(chosen(Arrangement::Swap).rev().filter(|i| removal(&proposals[*i])));}@",
                "order.extend(chosen(Arrangement::Swap).filter(|i| removal(&proposals[*i])));",
            ),
            (
                "a directory comes after what is in it",
                "@{order.extend(chosen(Arrangement::Swap).filter(|i| !removal(&proposals[*i])));}@",
                "order.extend(chosen(Arrangement::Swap).filter(|i| !removal(&proposals[*i])).rev());",
            ),
            ("files with other names are changed in place", "@{alone}@ && !has_coupled", "true"),
            ("attributes that disturb each other are set in place", "alone && @{!has_coupled}@ &&", "true"),
            (
                "owner and set-id bits are set in place",
                "(@{owner_stays || (old.mode | new.mode) & SET_ID == 0}@)",
                "true",
            ),
            (
                "whoever leaves a hard-link group keeps the inode",
                "if @{heir.get(old) == Some(&new)}@ && source.get(new) == Some(&old) {",
                "true",
            ),
            (
                "whoever enters a hard-link group keeps the inode",
                "if heir.get(old) == Some(&new) && @{source.get(new) == Some(&old)}@ {",
                "true",
            ),
        ],
    },
    Group {
        file: "src/journal/mod.rs",
        mutants: &[
            (
                "a barrier of the journal is none",
                "pub fn sync(&mut self, vfs: &V) -> Result<(), IoError> { @{vfs.sync_file(&self.file)?;}@",
                "let _ = vfs;",
            ),
            (
                "a barrier of everything is none",
                "if !is_durable && !vfs.sync_all_reports() { vfs.sync_file(&self.file)?; } @{vfs.sync_all()?;}@",
                "let _ = vfs;",
            ),
            (
                "a barrier of everything is one of the journal",
                "if !is_durable && !vfs.sync_all_reports() { vfs.sync_file(&self.file)?; } @{vfs.sync_all()?;}@",
                "vfs.sync_file(&self.file)?;",
            ),
            (
                "a barrier of everything is trusted with the journal",
                "if !is_durable && @{!vfs.sync_all_reports()}@ { vfs.sync_file(&self.file)?;",
                "false",
            ),
            ("an epoch begins before the last one is durable", "@{self.settle(vfs)?;}@ let header", ""),
            ("any epoch counts as durable", "if @{self.settled}@ { return Ok(()); }", "true"),
            ("no epoch counts as durable", "if @{self.settled}@ { return Ok(()); }", "false"),
            (
                "an epoch begins without its header",
                "current, ..self.header }; @{vfs.write_at(&self.file, header.offset(), &header.encode())?;}@",
                "",
            ),
            (
                "an epoch overwrites the one before",
                "epoch: @{self.header.epoch + 1}@, current",
                "self.header.epoch + 2",
            ),
            (
                "an epoch names no generation",
                "let header = @{Header { epoch: self.header.epoch + 1, current, ..self.header }}@;",
                "{ let _ = current; Header { epoch: self.header.epoch + 1, ..self.header } }",
            ),
            (
                "a frame is not written",
                "@{vfs.write_at(&self.file, self.header.frame_offset(self.next), &bytes)?;}@",
                "let _ = (vfs, &bytes);",
            ),
            (
                "a frame overwrites the one before",
                "@{self.header.frame_offset(self.next)}@, &bytes)?;",
                "self.header.frame_offset(self.next.saturating_sub(1))",
            ),
            (
                "frames are not chained",
                "self.header.encode_frame(self.next, @{self.previous}@, self.durable, payload)",
                "0",
            ),
            (
                "frames do not say what is durable",
                "self.header.encode_frame(self.next, self.previous, @{self.durable}@, payload)",
                "0",
            ),
            (
                "frames say that what is pending is durable",
                "self.header.encode_frame(self.next, self.previous, @{self.durable}@, payload)",
                "self.next",
            ),
            ("what is read counts as durable", "previous, durable: @{0}@, settled: settled && !torn, torn };", "next"),
            ("an epoch that has just begun counts as durable", "= (header, 0, 0, 0, @{false}@);", "true"),
            ("a journal that was cut short is read", "@{stat.size < whole}@", "false"),
            ("a header that was inferred counts as durable", "settled: settled && @{!torn}@, torn };", "true"),
            (
                "a header that was inferred names an older generation",
                "if self.torn { @{self.header.current = current;}@",
                "let _ = current;",
            ),
            (
                "a header that was inferred is not written",
                "if self.torn { @{vfs.write_at(&self.file, self.header.offset(), &self.header.encode())?;}@",
                "let _ = vfs;",
            ),
        ],
    },
    Group {
        file: "src/journal/scan.rs",
        mutants: &[
            ("the older header counts", "if @{even.epoch > odd.epoch}@ {", "even.epoch < odd.epoch"),
            (
                "headers that contradict each other are read",
                "[Some(even), Some(odd)] if @{even.journal != odd.journal || even.epoch.abs_diff(odd.epoch) != 1}@ => {",
                "false",
            ),
            ("an epoch whose header has rotted did not begin", "if @{slots[slot].is_none()}@ {", "false"),
            ("records need not follow one another", "@{ended |= frame.previous != previous;}@", ""),
            (
                "a record that has rotted ends the journal",
                "} else if @{frame.durable as usize > payloads.len()}@ {",
                "false",
            ),
            ("a torn group is damage", "} else if @{frame.durable as usize > payloads.len()}@ {", "true"),
            ("a record beyond a torn one counts", "else { @{ended = true;}@ continue;", ""),
            ("an epoch counts as durable unread", "let mut settled = @{header.epoch == 0}@;", "true"),
            ("frames do not tell that their epoch is durable", "@{settled |= frame.durable > 0;}@", ""),
        ],
    },
];
