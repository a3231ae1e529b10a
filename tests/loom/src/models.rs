//! What is tried: shards that sleep, send to each other, and find channels full. A wake that is
//! lost is a deadlock, which loom reports.

use std::process::Command;

/// The models of one version of the mesh.
macro_rules! models {
    ($mesh:path) => {
        use std::collections::VecDeque;
        use std::future::poll_fn;
        use std::task::{Context, Poll};

        use ringmq::routing::ShardId;
        use $mesh as mesh;

        use mesh::{Found, Mesh};

        /// A shard as far as the mesh knows it: it looks when it is woken, and sends what it has as
        /// soon as there is room.
        struct Shard {
            mesh: Mesh<u32, u32>,
            /// What is still to be sent to each other shard, and whether its channel was full.
            backlogs: Vec<(ShardId, VecDeque<u32>, bool)>,
            /// Messages and connections that are still to come.
            wanted: usize,
            /// The last message of each shard: they come in order.
            last: Vec<u32>,
            limit: usize,
        }

        impl Shard {
            /// Sends until everything is sent or every channel is full; rings after each message.
            fn send(&mut self) {
                for (to, backlog, is_full) in &mut self.backlogs {
                    while !*is_full && let Some(message) = backlog.pop_front() {
                        if let Err(message) = self.mesh.send(*to, message) {
                            backlog.push_front(message);
                            *is_full = true;
                        }
                        self.mesh.ring();
                    }
                }
            }

            fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
                loop {
                    let mut found = Vec::new();
                    let more = self.mesh.look(cx.waker(), self.limit, |one| found.push(one));
                    found.into_iter().for_each(|one| self.take(one));
                    self.send();
                    if self.wanted == 0 && self.backlogs.iter().all(|(_, left, _)| left.is_empty())
                    {
                        return Poll::Ready(());
                    }
                    if !more {
                        return Poll::Pending;
                    }
                }
            }

            fn take(&mut self, found: Found<u32, u32>) {
                match found {
                    Found::Message(from, number) => {
                        let last = &mut self.last[from.index()];
                        assert_eq!(number, *last + 1, "messages of {from} come in order");
                        *last = number;
                        self.wanted -= 1;
                    }
                    Found::Handoff(_) => self.wanted -= 1,
                    Found::Room(to) => {
                        for backlog in self.backlogs.iter_mut().filter(|(other, ..)| *other == to) {
                            backlog.2 = false;
                        }
                    }
                }
            }
        }

        /// Runs shards, each in a thread, until everybody has got everything. `traffic` says how
        /// many messages go from whom to whom; `limit`, how many of them are found in one look;
        /// `bound`, how often a thread that could go on is interrupted, at most.
        fn run(
            shard_count: usize,
            capacity: usize,
            traffic: &'static [(usize, usize, u32)],
            limit: usize,
            bound: Option<usize>,
        ) {
            let model = move || {
                let (meshes, _) = Mesh::<u32, u32>::new(shard_count, capacity);
                let shards = meshes.into_iter().enumerate().map(|(index, mesh)| {
                    let outgoing = traffic.iter().filter(|(from, ..)| *from == index);
                    let incoming = traffic.iter().filter(|(_, to, _)| *to == index);
                    Shard {
                        mesh,
                        backlogs: outgoing
                            .map(|(_, to, count)| {
                                (ShardId::from_index(*to), (1..=*count).collect(), false)
                            })
                            .collect(),
                        wanted: incoming.map(|(.., count)| *count as usize).sum(),
                        last: vec![0; shard_count],
                        limit,
                    }
                });
                let mut threads: Vec<_> = shards
                    .map(|mut shard| {
                        move || {
                            loom::future::block_on(poll_fn(|cx| {
                                shard.send();
                                shard.poll(cx)
                            }));
                            shard
                        }
                    })
                    .collect();
                // The first runs here: loom knows few threads.
                let first = threads.remove(0);
                let others: Vec<_> = threads.into_iter().map(loom::thread::spawn).collect();
                let _first = first();
                let _others: Vec<_> =
                    others.into_iter().map(|other| other.join().expect("no panic")).collect();
            };
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = bound;
            builder.check(model);
        }

        /// Messages for a shard that may be about to sleep.
        pub(super) fn wake() {
            run(2, 4, &[(0, 1, 2)], 8, Some(5));
        }

        /// A single one, without a bound.
        pub(super) fn wake_once() {
            run(2, 4, &[(0, 1, 1)], 8, None);
        }

        /// More messages than are found in one look.
        pub(super) fn rest() {
            run(2, 4, &[(0, 1, 3)], 1, Some(3));
        }

        /// A channel that is full, and a sender that may be about to sleep.
        pub(super) fn room() {
            run(2, 1, &[(0, 1, 2)], 8, Some(3));
        }

        /// Both at once, in both directions.
        pub(super) fn both_ways() {
            run(2, 1, &[(0, 1, 2), (1, 0, 1)], 8, Some(2));
        }

        /// Two that send to one.
        pub(super) fn two_to_one() {
            run(3, 1, &[(0, 1, 1), (2, 1, 1)], 8, Some(2));
        }

        /// A connection that is handed over.
        pub(super) fn handoff() {
            loom::model(|| {
                let (mut meshes, _) = Mesh::<u32, u32>::new(2, 1);
                let (mesh, from) = (meshes.pop().expect("two"), meshes.pop().expect("two"));
                let (backlogs, last) = (Vec::new(), vec![0; 2]);
                let mut shard = Shard { mesh, backlogs, wanted: 1, last, limit: 8 };
                let home = loom::thread::spawn(move || {
                    loom::future::block_on(poll_fn(|cx| shard.poll(cx)));
                    shard
                });
                from.hand_off(ShardId::from_index(1), 7);
                let _shard = home.join().expect("no panic");
            });
        }
    };
}

/// The mesh as it is.
mod as_it_is {
    models!(crate::mesh);
}

#[test]
fn a_shard_that_sleeps_is_woken() {
    as_it_is::wake();
    as_it_is::wake_once();
}

#[test]
fn what_one_look_does_not_find_the_next_one_does() {
    as_it_is::rest();
}

#[test]
fn a_sender_that_waits_for_room_is_woken() {
    as_it_is::room();
}

#[test]
fn two_shards_that_wait_for_each_other_go_on() {
    as_it_is::both_ways();
}

#[test]
fn two_senders_wake_one_receiver() {
    as_it_is::two_to_one();
}

#[test]
fn a_connection_that_is_handed_over_is_found() {
    as_it_is::handoff();
}

/// Runs a model in a process of its own: loom aborts when threads that it has found in a deadlock
/// are taken down.
fn expect_deadlock(module: &str, model: impl FnOnce()) {
    const WITHIN: &str = "RINGMQ_LOOM_WITHIN";
    if std::env::var_os(WITHIN).is_some() {
        return model();
    }
    let (_, path) = module.split_once("::").expect("a path in this crate");
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "--nocapture", &format!("{path}::is_found")])
        .env(WITHIN, "1")
        .output()
        .expect("it runs once more");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{path} was not found");
    assert!(said.contains("deadlock; threads"), "{path} failed for another reason: {said}");
}

/// A copy of the mesh with a fault that these models must find.
macro_rules! broken {
    ($fault:ident: $model:ident) => {
        mod $fault {
            #[allow(dead_code, unused_variables, reason = "a fault leaves something unused")]
            mod mesh {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($fault), ".rs"));
            }

            #[allow(dead_code)]
            mod models {
                models!(super::mesh);
            }

            #[test]
            fn is_found() {
                super::expect_deadlock(module_path!(), || models::$model());
            }
        }
    };
}

broken!(neither_second_try_nor_ring: room);
broken!(no_mark: room);
broken!(no_room_ring: room);
broken!(no_reset: room);
broken!(reset_after_the_look: wake);
broken!(relaxed_ring: wake);
broken!(relaxed_reset: wake);
broken!(reset_in_two_steps: wake);
broken!(one_name_for_all: two_to_one);
broken!(no_ring_for_the_rest: rest);
