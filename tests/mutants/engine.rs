//! Mutants of the engine: steps, evidence, recovery, and what is checked before and after.

use super::Group;

pub(super) const GROUPS: &[Group] = &[
    Group {
        file: "src/device/executor.rs",
        mutants: &[
            ("a trial is taken back over what is marked immutable", "@{refuse_pinned(vfs, plan)?;}@", ""),
            (
                "a directory is removed before its exchange is durable",
                "if @{self.plan.as_ref().is_some_and(|plan| ends_directory(plan, index))}@ {",
                "false",
            ),
            (
                "nothing is exchanged back",
                "if plan.method == Method::Exchange => { open()?; @{Ok(self.vfs.rename(&old, &at, Rename::Exchange)?)}@",
                "Ok(())",
            ),
            (
                "what goes back overwrites the new object",
                "if plan.method == Method::Exchange => { open()?; Ok(self.vfs.rename(&old, &at, @{Rename::Exchange}@)?)",
                "Rename::Replace",
            ),
            (
                "what was removed does not come back",
                "(Position::Done, Some(_), None) => @{moved(&old, &at)}@,",
                "Ok(())",
            ),
            ("what was created stays", "(Position::Done, None, _) => @{moved(&at, &new)}@,", "Ok(())"),
            (
                "what was in the middle does not come back",
                "if self.vfs.stat(&at)?.is_none() => { @{moved(&old, &at)}@",
                "Ok(())",
            ),
            // Checks before a step.
            (
                "a directory is moved with what is in it",
                "Position::NotDone if @{holds_something(self.vfs, &at, &step.before)?}@ => Err(foreign(step)),",
                "false",
            ),
            (
                "a step goes without its new content",
                "Position::Unstaged => { @{Err(Error::new(Code::Digest, format!(\"the new content of {at} is gone from the store\")))}@",
                "Ok(())",
            ),
            (
                "a step passes what is foreign",
                "Position::ForeignBefore | Position::ForeignAfter => @{Err(foreign(step))}@,",
                "Ok(())",
            ),
            (
                "a step replaces what is foreign",
                "Position::ForeignBefore | Position::ForeignAfter => @{Err(foreign(step))}@,",
                "replace(self.vfs, plan, step, &at, seen, position)",
            ),
            (
                "a step back takes a directory with what is in it",
                "(Position::Done, ..) if @{holds_something(self.vfs, &at, &step.after)?}@ => Err(stuck(vec![finding(step)])),",
                "false",
            ),
            (
                "a step back passes what is foreign",
                "(Position::Lost | Position::ForeignAfter, ..) => @{Err(stuck(vec![finding(step)]))}@,",
                "Ok(())",
            ),
            (
                "metadata is set back on what is foreign",
                "return match position { Position::ForeignBefore | Position::ForeignAfter => @{Err(stuck(vec![finding(step)]))}@,",
                "amend(self.vfs, &at, &step.before, plan.policy)",
            ),
            // The survey.
            ("recovery passes what is foreign", "_ if @{!foreign.is_empty()}@ => Err(stuck(foreign)),", "false"),
            (
                "recovery goes back over what is lost",
                "(true, Some(lost)) => @{Err(stuck(vec![finding(lost)]))}@,",
                "{ let _ = lost; Ok(Survey::Unstaged) }",
            ),
            (
                "recovery without a plan goes forward",
                "let Some(plan) = &self.plan else { return Ok(@{Survey::Unstaged}@) };",
                "Survey::Ready",
            ),
            ("new content that is gone is not seen", "Position::Unstaged => @{unstaged = true}@,", "{}"),
            ("the records of the new version are not looked at", "@{!self.records_are_stored(plan)?}@", "false"),
            (
                "the new generation is not looked at",
                "Ok(@{stored(&layout::generation_state(id), plan.state)?}@ &&",
                "true",
            ),
            ("the new manifest is not looked at", "&& @{stored(&layout::manifest(id), plan.manifest)?}@)", "true"),
            (
                "recovery goes back without looking whether it can",
                "if matches!(self.state, State::Applying { facts, .. } if facts.recovery == Recovery::Backward) {
                    @{can_revert(self.vfs, plan)?;}@",
                "",
            ),
            (
                "what was changed since is taken back",
                "if @{!bad.is_empty()}@ { return Err(Error::new(Code::Changed,",
                "false",
            ),
            (
                "a directory that was filled since is taken back",
                "@{refuse_strays(vfs, &leaving, plan.steps.iter().filter(|step| step.after.is_some()).map(|step| &step.path))}@",
                "{ let _ = leaving; Ok(()) }",
            ),
            (
                "a path that was changed since does not count",
                "Position::Lost | Position::ForeignAfter => @{bad.push(found_instead(vfs, plan, step, &step.after))}@,",
                "()",
            ),
            ("names that surefoot did not install are no strays", "if @{strays.is_empty()}@ { return Ok(());", "true"),
            // Syncs and errors.
            (
                "a failed sync is not noted",
                "@{mark_poisoned(self.vfs);}@ Error::new(Code::SyncFailed, \"a sync failed: what is on the disk is not known\").because(error)",
                "",
            ),
            (
                "a failed sync is passed over",
                "@{result.map_err(|error| { mark_poisoned(self.vfs);
                Error::new(Code::SyncFailed, \"a sync failed: what is on the disk is not known\").because(error) })}@",
                "{ let _ = result; Ok(()) }",
            ),
            (
                "the poison names no session",
                "let _ = @{vfs.write_at(&file, 0, &session.0)}@;",
                "vfs.write_at(&file, 0, &[0; 16])",
            ),
            (
                "after a failed sync a step is taken back",
                "Err(error) if @{error.code() == Code::SyncFailed}@ => return Err(error), Err(error) => self.fail(error),",
                "false",
            ),
            (
                "after a failed sync of staging it is swept",
                "Err(error) if @{error.code() == Code::SyncFailed}@ => Err(error), Err(error) => Ok(self.fail(error)),",
                "false",
            ),
            (
                "a step back that failed counts as taken",
                "Err(error) => @{Err(Error::new(Code::Undecided, \"stepping back stopped\").because(error))}@,",
                "{ let _ = error; Ok(Some(Input::Stepped)) }",
            ),
            (
                "times that cannot be set do not matter",
                "Err(error) => @{Err(Error::new(Code::Undecided, \"setting times of directories failed\").because(error))}@,",
                "{ let _ = error; Ok(None) }",
            ),
            (
                "a record that cannot be written does not matter",
                "Err(error) => @{Err(Error::new(Code::Undecided, \"the journal cannot be written\").because(error))}@,",
                "{ let _ = error; Ok(()) }",
            ),
            (
                "a transaction begins although that cannot be written",
                "Err(error) if begins => @{Err(Error::new(Code::Io, \"the journal cannot be written\").because(error))}@,",
                "{ let _ = error; Ok(()) }",
            ),
            (
                "what cannot be swept counts as swept",
                "tracing::warn!(error = %error, \"leavings of a finished transaction could not be removed\"); @{Ok(None)}@",
                "Ok(Some(Input::Swept))",
            ),
            (
                "times of directories are not set",
                "if plan.policy.mtime && stat.mtime != end.mtime { @{self.vfs.set_mtime(&at, end.mtime)?;}@",
                "",
            ),
            (
                "directories that were opened are not closed again",
                "if stat.mode != end.mode && stat.mode == open_mode(end.mode) { @{self.vfs.set_mode(&at, end.mode)?;}@",
                "",
            ),
            ("the tree is new before that is confirmed", "if @{records.contains(&Record::Confirmed)}@ {", "true"),
            ("the tree stays old after that is confirmed", "if @{records.contains(&Record::Confirmed)}@ {", "false"),
        ],
    },
    Group {
        file: "src/device/moves.rs",
        mutants: &[
            // Renames.
            (
                "what is created overwrites what stands there",
                "(None, _) => Ok(vfs.rename(&new, at, @{Rename::NoReplace}@)?),",
                "Rename::Replace",
            ),
            (
                "what is replaced is lost",
                "(Some(_), Some(_)) if plan.method == Method::Exchange => { vfs.rename(&new, at, @{Rename::Exchange}@)?;",
                "Rename::Replace",
            ),
            (
                "nothing is exchanged",
                "(Some(_), Some(_)) if plan.method == Method::Exchange => { @{vfs.rename(&new, at, Rename::Exchange)?;}@",
                "",
            ),
            ("nothing is taken out", "(Some(_), None) => { @{vfs.rename(at, &old, Rename::NoReplace)?;}@", ""),
            (
                "what is taken out is removed",
                "(Some(_), None) => { @{vfs.rename(at, &old, Rename::NoReplace)?;}@",
                "vfs.remove_file(at)?;",
            ),
            (
                "nothing is put where something was",
                "position == Position::Middle => @{Ok(vfs.rename(&new, at, Rename::NoReplace)?)}@,",
                "Ok(())",
            ),
            (
                "what is moved over is removed first",
                "@{Ok(vfs.rename(from, at, Rename::Replace)?)}@",
                "{ vfs.remove_file(at)?; Ok(vfs.rename(from, at, Rename::NoReplace)?) }",
            ),
            // What came out.
            (
                "what came out of an exchange is not looked at",
                "vfs.rename(&new, at, Rename::Exchange)?; if @{came_out(&old)?}@ {",
                "{ let _ = &came_out; true }",
            ),
            (
                "what came out of an exchange stays out",
                "return Ok(()); } @{vfs.rename(&new, at, Rename::Exchange)?;}@ Err(foreign(step))",
                "",
            ),
            (
                "what was taken out is not looked at",
                "vfs.rename(at, &old, Rename::NoReplace)?; if @{came_out(&old)?}@ {",
                "{ let _ = &came_out; true }",
            ),
            ("what was taken out stays out", "@{vfs.rename(&old, at, Rename::NoReplace)?;}@ Err(foreign(step))", ""),
            (
                "what came out may be another object",
                "let same = |known: Print| @{stat.is_some_and(|stat| stat.inode == known.inode)}@;",
                "{ let _ = (known, stat); true }",
            ),
            ("what came out may hold something", "Ok(@{empty}@ && seen.tree", "{ let _ = empty; true }"),
            // Metadata in place.
            (
                "the mode is set before the owner",
                "@{if chown { vfs.set_owner(at, to.uid, to.gid)?; } if chown || now.mode != mode { vfs.set_mode(at, mode)?; }}@",
                "{ if chown || now.mode != mode { vfs.set_mode(at, mode)?; }
                if chown { vfs.set_owner(at, to.uid, to.gid)?; } }",
            ),
            ("an attribute that is to go stays", "@{vfs.set_xattr(at, name, None)?;}@", ""),
        ],
    },
    Group {
        file: "src/device/evidence.rs",
        mutants: &[
            (
                "what was seen once is not looked at again",
                "Some((known, ends)) if @{known == print}@ => ends,",
                "{ let _ = known; true }",
            ),
            (
                "what was seen once is known by its inode",
                "Some((known, ends)) if @{known == print}@ => ends,",
                "known.inode == print.inode",
            ),
            (
                "equal files are told apart by nothing",
                "if @{ends.before && ends.after && step.before_inode != step.after_inode}@ {",
                "false",
            ),
            (
                "content is not compared",
                "return closed.matches(node, counting); } @{found.matches(node, counting)}@",
                "{ let _ = counting; could_be(stat, node) }",
            ),
            (
                "times of directories count on the way",
                "let counting = Policy { mtime: @{policy.mtime && !found.is_directory()}@, ..policy };",
                "policy.mtime",
            ),
            (
                "no exchange needs its new object",
                "(Some(_), Some(_)) => match (tree, stored) {
                (Found::Is(t), Found::Is(s)) if @{t.before && s.after}@ => P::NotDone,",
                "{ let _ = s; t.before }",
            ),
            (
                "an exchange is done without its old object",
                "(Found::Is(t), Found::Is(s)) if @{t.after && s.before}@ => P::Done, (_, Found::Is(s))",
                "{ let _ = s; t.after }",
            ),
            (
                "anything may be put where nothing is",
                "(None, _) => match (tree, stored) { (Found::Absent, Found::Is(s)) if @{s.after}@ => P::NotDone,",
                "{ let _ = s; true }",
            ),
            (
                "what was created need not be the new object",
                "(Found::Is(t), Found::Absent) if @{t.after}@ => P::Done,",
                "{ let _ = t; true }",
            ),
            (
                "what is removed need not be the old object",
                "(Found::Is(t), Found::Absent) if @{t.before}@ => P::NotDone,",
                "{ let _ = t; true }",
            ),
            (
                "what was removed need not be the old object",
                "(Found::Absent, Found::Is(s)) if @{s.before}@ => P::Done,",
                "{ let _ = s; true }",
            ),
            ("a name that is gone proves that it was removed", "(Found::Absent, _) => @{P::Lost}@,", "P::Done"),
            (
                "a store that is empty proves that it was put in place",
                "(Found::Absent, _) => @{P::Unstaged}@, (_, Found::Is(s)) if s.after => P::ForeignBefore, _ => P::ForeignAfter, }, (Some(_), None)",
                "P::Done",
            ),
            (
                "what is replaced need not be kept",
                "if @{t.before && s.after && old_is_kept}@ => P::NotDone,",
                "t.before && s.after",
            ),
            (
                "what stands in the middle need not be kept",
                "(Found::Absent, Found::Is(s)) if @{s.after && old_is_kept}@ => P::Middle,",
                "s.after",
            ),
            (
                "what was replaced need not be kept",
                "(Found::Is(t), _) if @{t.after && old_is_kept}@ => P::Done,",
                "t.after",
            ),
            (
                "what is kept need not be the old object",
                "let old_is_kept = @{matches!(kept, Found::Is(k) if k.before)}@;",
                "!matches!(kept, Found::Absent)",
            ),
            ("what moved with its directory is not found", "if @{elsewhere != at}@ {", "false"),
            (
                "any metadata may be set over",
                "if @{!is_mixture(&now, &before.metadata, &after.metadata, policy, after.is_directory())}@ {",
                "{ let _ = before; false }",
            ),
            ("metadata of any type may be set over", "if @{!same_type(&stat, after)}@ {", "false"),
            ("any mode may be set over", "@{mode}@ && owner && xattrs", "true"),
            ("any owner may be set over", "mode && @{owner}@ && xattrs", "true"),
            ("any attribute may be set over", "mode && owner && @{xattrs}@", "true"),
            (
                "metadata is done as soon as some is",
                "Ok(if @{now.difference(&after.metadata, counting).is_none()}@ { Position::Done }",
                "now.mode == after.metadata.mode || now.difference(&after.metadata, counting).is_none()",
            ),
            ("any name may stand in a directory that is to go", "Ok(path) if @{known(&path)}@ => {}", "true"),
        ],
    },
    Group {
        file: "src/device/recover.rs",
        mutants: &[
            (
                "recovery reads through a cache that a failed sync has spoilt",
                "-> Result<Recovered, Error> { @{self.require_trust()?;}@",
                "",
            ),
            ("no session is that of the failed sync", "if @{vfs.session()? == session}@ { return Err(", "false"),
            ("every session is that of the failed sync", "if @{vfs.session()? == session}@ { return Err(", "true"),
            (
                "a failed sync is remembered for ever",
                "@{vfs.write_at(&file, 0, &Session::default().0)?;}@",
                "let _ = (vfs, file);",
            ),
            (
                "recovery after an error believes what it remembers",
                "if @{self.broken}@ { let (journal, records, state)",
                "false",
            ),
            (
                "a trial ends although it cannot be taken back",
                "Err(error) if @{matches!(error.code(), Code::Changed | Code::Stray | Code::Immutable | Code::Mount)}@ => {",
                "false",
            ),
            (
                "a number alone says that a trial was being taken back",
                "if back && @{evidence::examine(&self.vfs, &plan, &directories, step, &mut Seen::default())?.0 == wanted}@ {",
                "{ let _ = (&directories, wanted); true }",
            ),
            ("a direction that has rotted is not missed", "if @{self.was_going_back()?}@ {", "false"),
            (
                "a lost direction is followed although it cannot be",
                "@{executor::can_revert(&self.vfs, &self.plan()?).map_err(|error| {
                    Error::new(Code::Stuck, \"a trial was being taken back, which cannot be finished\").because(error)
                })?;}@",
                "",
            ),
            (
                "any plan is that of the journal",
                "found.filter(|bytes| @{Digest::of(bytes).0 == digest}@)",
                "{ let _ = (bytes, digest); true }",
            ),
            (
                "the plan may be that of another transaction",
                "if @{plan.transaction != *transaction || plan.steps.len() != steps as usize}@ {",
                "{ let _ = steps; false }",
            ),
            (
                "a plan that is gone was never followed",
                "if @{went_on || self.tree_shows_steps(*transaction)?}@ {",
                "{ let _ = went_on; false }",
            ),
            (
                "only a record shows that a plan that is gone was followed",
                "if went_on || @{self.tree_shows_steps(*transaction)?}@ {",
                "false",
            ),
            (
                "only the tree shows that a plan that is gone was followed",
                "if @{went_on}@ || self.tree_shows_steps",
                "{ let _ = went_on; false }",
            ),
            (
                "what was always so shows steps",
                "if is(change.after.as_ref()) && @{!is(manifest.get(&change.path))}@ {",
                "true",
            ),
            (
                "inodes do not show that steps were taken back",
                "stored.is_some_and(|stat| @{stat.inode == step.after_inode}@)",
                "{ let _ = stat; false }",
            ),
            (
                "names do not show that steps were taken back",
                "(_, None) => (@{self.vfs.stat(&old)?.is_none()}@, Position::NotDone),",
                "false",
            ),
            (
                "without exchange nothing shows that steps were taken back",
                "(@{self.vfs.stat(&old)?.is_none()}@, Position::Unstaged)",
                "false",
            ),
            (
                "during a trial the old version is verified",
                "State::Trial { .. } => @{self.pending_generation()?}@, State::Idle",
                "self.current()?",
            ),
        ],
    },
    Group {
        file: "src/device/engine.rs",
        mutants: &[
            (
                "a transaction begins over one that is not finished",
                "if @{self.state == State::Idle}@ { Ok(()) } else { Err(pending()) }",
                "true",
            ),
            ("an engine that is broken goes on", "if @{self.broken}@ { return Err(", "false"),
            (
                "an engine that failed is not broken",
                "if let Err(error) = self.notice(result) { @{self.broken = true;}@ return Err(error);",
                "",
            ),
            (
                "a process forgets a failed sync that it could not note",
                "if @{self.condemned}@ { return Err(super::recover::untrusted()); }",
                "false",
            ),
            (
                "an engine goes on in a session with a failed sync",
                "@{super::recover::refuse_poisoned(&self.vfs)}@",
                "Ok(())",
            ),
            (
                "the changes may lead to another tree than was promised",
                "if @{request.target.is_some() && request.target != digest}@ {",
                "false",
            ),
            (
                "the last epoch is not made durable",
                "@{let settled = self.journal.settle(&self.vfs).map_err(|error| store::sync_failed(&self.vfs, error));
                self.notice(settled)?;}@",
                "",
            ),
            ("a state directory elsewhere will do", "@{refuse_elsewhere(&vfs)?;}@ let config", ""),
            (
                "an undone update stays the current one",
                "Generation::read(&self.vfs, *transaction), Some(Record::Begin { target, .. }) => @{Generation::read(&self.vfs, *target)}@",
                "{ let _ = target; self.current() }",
            ),
        ],
    },
    Group {
        file: "src/device/decide.rs",
        mutants: &[
            (
                "a trial is rejected although it cannot be",
                "let plan = self.plan()?; @{executor::can_revert(&self.vfs, &plan)?;}@ self.resume(",
                "",
            ),
            ("an update is undone although it cannot be", "@{executor::can_revert(&self.vfs, &plan)?;}@ let id", ""),
            ("an undo keeps nothing of what it replaces", "@{stage::stage_undo(vfs, from.id, &mut plan)?;}@", ""),
            (
                "an undo leads to a generation that is gone",
                "|| @{self.vfs.stat(&layout::generation_state(parent))?.is_none()}@ {",
                "false",
            ),
        ],
    },
    Group {
        file: "src/device/stage.rs",
        mutants: &[
            (
                "what the disk does not keep is not looked for",
                "let Some(difference) = @{kept.difference(&node.metadata, self.policy)}@ else",
                "None",
            ),
            ("what is set in place is not tried before", "@{self.rehearse()?;}@", ""),
            (
                "content from a package is not checked",
                "content, after.kind.size())?; @{check_content(&self.checked.proposals[index].path, after, size, digest)?;}@",
                "let _ = (size, digest);",
            ),
            (
                "small content from a package is not checked",
                "@{check_content(&self.checked.proposals[index].path, after, bytes.len() as u64, Digest::of(bytes))?;}@",
                "",
            ),
            (
                "content from the tree is not checked",
                "&mut reader, node.kind.size())?; @{check_content(from, node, size, digest)}@",
                "{ let _ = (size, digest); Ok(()) }",
            ),
            (
                "content that is kept is not checked",
                "let (size, digest) = store_early(vfs, to, content)?; @{check_content(from, node, size, digest)?;}@",
                "let _ = (size, digest);",
            ),
            (
                "staged files are not synced where nothing else reports",
                "if @{!self.vfs.sync_all_reports() && proposal.after.as_ref().is_some_and(Node::is_file)}@ {",
                "false",
            ),
            ("a staged file that cannot be synced is not noted", "@{super::executor::mark_poisoned(self.vfs);}@", ""),
            ("what is replaced is not kept", "@{keep_old(vfs, method, id, &steps)?;}@", "let _ = (vfs, method, id);"),
            ("whatever was unpacked counts as dressed", "if @{self.is_dressed(&stat, after, *index)}@ {", "true"),
            (
                "an undo does not keep what it replaces",
                "@{keep_old(vfs, plan.method, plan.slots, &plan.steps)}@",
                "Ok(())",
            ),
            (
                "new objects have the mode of the process",
                "Some(file) => @{self.vfs.set_mode_of(file, slot, *mode)?}@,",
                "{ let _ = file; }",
            ),
            (
                "new objects are given away after their mode is set",
                "@{match file { Some(file) => self.vfs.set_mtime_of(file, slot, *mtime)?, None => self.vfs.set_mtime(slot, *mtime)?, }}@",
                "if let Some((uid, gid)) = self.owner(node, index) { self.vfs.set_owner(slot, uid, gid)?; }
                self.vfs.set_mtime(slot, *mtime)?;",
            ),
        ],
    },
    Group {
        file: "src/device/store.rs",
        mutants: &[
            (
                "a new small file is not synced where nothing else reports",
                "if @{vfs.sync_all_reports()}@ { Ok(()) } else { vfs.sync_file(&file)",
                "true",
            ),
            (
                "a small file that was replaced is not durable",
                "vfs.rename(new, at, crate::vfs::Rename::Replace)?;
                @{vfs.sync_all().map_err(|error| sync_failed(vfs, error))}@",
                "Ok(())",
            ),
            (
                "a small file is renamed before it is durable",
                "@{vfs.sync_all().map_err(|error| sync_failed(vfs, error))?;
                vfs.rename(new, at, crate::vfs::Rename::Replace)?;}@",
                "vfs.rename(new, at, crate::vfs::Rename::Replace)?;
                vfs.sync_all().map_err(|error| sync_failed(vfs, error))?;",
            ),
            (
                "a file of the state directory may hold anything",
                "Ok(@{crate::tree::hash_file(vfs, at)?.1 == digest}@)",
                "{ let _ = digest; true }",
            ),
            (
                "a generation may be another one",
                "if wire.magic != v1::GENERATION_MAGIC || @{wire.id != id}@ ||",
                "false",
            ),
        ],
    },
    Group {
        file: "src/device/init.rs",
        mutants: &[
            (
                "the journal has its name before it is durable",
                "@{vfs.sync_all().map_err(|error| store::sync_failed(&vfs, error))?;}@ vfs.rename(",
                "",
            ),
            (
                "init trusts a sync that does not report",
                "@{store::sync_one(&vfs, &layout::journal_new())?;}@",
                "",
            ),
            (
                "a tree under care is reported before it is durable",
                "@{vfs.sync_all().map_err(|error| store::sync_failed(&vfs, error))?;}@ let entry =",
                "",
            ),
            (
                "the journal is named before anything is durable",
                "journal_new())?; @{vfs.sync_all().map_err(|error| store::sync_failed(&vfs, error))?; vfs.rename(&layout::journal_new(), &layout::journal(), Rename::NoReplace)?;}@",
                "vfs.rename(&layout::journal_new(), &layout::journal(), Rename::NoReplace)?; vfs.sync_all()?;",
            ),
            (
                "the journal is made under its name",
                "@{Journal::create(&vfs, &layout::journal_new(), vfs.fresh_id()?, id)?;
                store::sync_one(&vfs, &layout::journal_new())?; vfs.sync_all().map_err(|error| store::sync_failed(&vfs, error))?;
                vfs.rename(&layout::journal_new(), &layout::journal(), Rename::NoReplace)?;}@",
                "Journal::create(&vfs, &layout::journal(), vfs.fresh_id()?, id)?;",
            ),
            (
                "a tree under care is taken under care again",
                "if @{vfs.stat(&layout::journal())?.is_some()}@ { return Err(",
                "false",
            ),
        ],
    },
    Group {
        file: "src/device/sweep.rs",
        mutants: &[
            ("undo data is kept for one more", "if @{changes == keep}@ { break; }", "changes > keep"),
            ("no undo data is kept", "if @{changes == keep}@ { break; }", "true"),
            ("manifests that are needed are swept", ".filter(|id| @{!manifests.contains(id)}@)", "true"),
            (
                "the generation before is swept",
                "Some(id) => remove_generation(vfs, id, @{generations.contains(&id)}@)?,",
                "false",
            ),
            (
                "what an unreadable generation needs is swept",
                "an earlier generation cannot be read\"); @{return Ok(());}@",
                "break;",
            ),
            (
                "a directory that was filled is in the way of the sweep",
                "Some(_) if @{vfs.list(at)?.is_empty()}@ => Ok(vfs.remove_dir(at)?),",
                "true",
            ),
        ],
    },
    Group {
        file: "src/device/preflight.rs",
        mutants: &[
            ("the tree need not be as expected", "if @{findings.is_empty()}@ { return Ok(looked); }", "true"),
            (
                "content need not be as expected",
                "@{tree::node_of(vfs, &at, &stat)?.difference(before, policy)}@",
                "{ let _ = (before, policy); None }",
            ),
            (
                "something may stand where nothing should",
                "let Some(before) = before else { looked.difference = @{Some(Difference::Unexpected)}@;",
                "None",
            ),
            ("a file system that tears renames will do", "if @{!capabilities.atomic_rename}@ {", "false"),
            (
                "names that surefoot did not install go with their directory",
                "@{refuse_strays(vfs, &leaving, proposals.iter().filter(|p| p.after.is_none()).map(|p| &p.path))?;}@",
                "let _ = leaving;",
            ),
            (
                "what is immutable is changed",
                "if @{stat.immutable}@ { return Err(Error::new(Code::Immutable, format!(\"{path} is",
                "false",
            ),
            (
                "what stands in an immutable directory is changed",
                "if @{stat.immutable}@ { return Err(Error::new(Code::Immutable, format!(\"{parent} is",
                "false",
            ),
            ("a mount point is changed", "if @{stat.mount_point}@ {", "false"),
            (
                "what lies across a mount is no refusal",
                "if @{error.kind() == std::io::ErrorKind::CrossesDevices}@ {",
                "false",
            ),
            ("names may collide", "if @{!vfs.folds_case(&Place::tree(&nearest))?}@ { continue; }", "true"),
            (
                "attributes are asked of what has none",
                "if @{!capabilities.xattrs && !after.metadata.xattrs.is_empty()}@ {",
                "false",
            ),
            (
                "links are asked of what has none",
                "if @{!capabilities.symlinks && matches!(after.kind, Kind::Symlink { .. })}@ {",
                "false",
            ),
            (
                "what is moved is linked although it differs",
                "if stored && leaves && @{alike}@ && !leaders",
                "true",
            ),
            (
                "a file that stays is linked as if it moved",
                "let leaves = @{arrangements[source] == Arrangement::Swap}@ && proposals[source].links == 1",
                "true",
            ),
            (
                "a file with other names is linked as if it moved",
                "let leaves = arrangements[source] == Arrangement::Swap && @{proposals[source].links == 1}@ &&",
                "true",
            ),
            ("a file moves to two places at once", "&& @{taken.insert(source)}@ {", "true"),
            (
                "the leader of a group is linked to what goes",
                "&& alike && @{!leaders.contains(&proposal.path)}@ &&",
                "true",
            ),
            ("what moves is charged", "|| @{moved.contains(&index)}@ { continue;", "false"),
            ("a manifest takes no room", "Some(Plan::length(steps)), @{room.manifest}@, room.note]", "None"),
            ("space is not counted", "if @{bytes > space.free_bytes}@ {", "false"),
            ("inodes are not counted", "Some(free) if @{inodes > free}@ => {", "false"),
        ],
    },
];
