//! The sockets of one executor, and their connections: the only code that reads and writes.
//!
//! A turn goes back and forth between sockets that have something to read and connections that
//! have something to write, some hundreds of each: with fewer, answers leave one by one. But only
//! a few are read or written at a time. So what was received is handled, and stamped with the time,
//! within microseconds, and what is stamped as sent is written as soon.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use slab::Slab;
use socket2::SockRef;

use crate::client::Actor;
use crate::executor::connection::Connection;
use crate::executor::handle::{Agenda, Handle};
use crate::recording::Recording;
use crate::sample::clock::Clock;
use ringmq_io::{Event, Key, Reading, Sockets, Written};

/// Connections written in one system call. All of them have the time before it as the time at
/// which they sent.
const WRITES_PER_CALL: usize = 32;
/// System calls that read, some twenty sockets each, before what came of it is written.
const READS_PER_ROUND: usize = 16;
/// System calls that write before others are read.
const WRITES_PER_ROUND: usize = 8;
/// A turn that lasts this long is the others' after the round.
const TURN_NS_MAX: i64 = 200_000;

pub(crate) struct Pump {
    sockets: Sockets,
    places: Slab<Place>,
    next_generation: u32,
    agenda: Rc<Agenda>,
    /// Of the batch that is written; empty between calls.
    writes: Vec<Key>,
    results: Vec<io::Result<Written>>,
}

/// A connection and its socket.
struct Place {
    connection: Connection,
    socket: OwnedFd,
    generation: u32,
    reading: Reading,
    writing: Writing,
    /// It does no more work; it is only read to its end.
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// It may not be connected yet; the ring says when it is, or when that has failed.
    Connecting,
    /// It takes something.
    Open,
    /// It takes nothing for now; the ring says when it does.
    Blocked,
}

impl Pump {
    pub(crate) fn new(sockets: Sockets, agenda: Rc<Agenda>) -> Self {
        Self {
            sockets,
            places: Slab::new(),
            next_generation: 0,
            agenda,
            writes: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Takes a socket in that begins to connect.
    pub(crate) fn insert(
        &mut self,
        now_ns: i64,
        socket: OwnedFd,
        actor: Box<dyn Actor>,
    ) -> (Key, Rc<Handle>) {
        self.next_generation = self.next_generation.wrapping_add(1);
        let vacant = self.places.vacant_entry();
        let index = u32::try_from(vacant.key()).expect("below 2^28 descriptors");
        let key = Key { index, generation: self.next_generation };
        let handle = Rc::new(Handle::new(now_ns, key, &self.agenda));
        self.sockets.await_room(key, socket.as_fd());
        vacant.insert(Place {
            connection: Connection::new(actor, Rc::clone(&handle)),
            socket,
            generation: key.generation,
            reading: Reading::Off,
            writing: Writing::Connecting,
            over: false,
        });
        // What was asked for is handed over in a turn.
        self.agenda.wake();
        (key, handle)
    }

    /// Hands a connection to another actor, with `early`, which came before its time.
    pub(crate) fn start_actor(
        &mut self,
        key: Key,
        now_ns: i64,
        (actor, early): (Box<dyn Actor>, Vec<u8>),
        recording: &mut Recording,
    ) {
        let Some(place) = get(&mut self.places, key) else { return };
        let handled = place.connection.start_actor(now_ns, actor, early, recording);
        place.end_if_wrong(handled);
        place.connection.handle.wake();
    }

    /// Closes the connection, whatever it does.
    pub(crate) fn remove(&mut self, key: Key) {
        if get(&mut self.places, key).is_none() {
            return;
        }
        // What was asked for names a descriptor, which may soon be that of another socket.
        self.sockets.look(1);
        let place = self.places.remove(key.index as usize);
        // The ring keeps the socket until its requests have ended, which this makes them do. It
        // fails only if the peer is gone already.
        let _ = SockRef::from(&place.socket).shutdown(Shutdown::Both);
        self.agenda.wake();
    }

    /// Reads and writes until there is nothing more to do, or the others' turn has come. False
    /// if there is nothing to do before the event descriptor or the agenda tells.
    /// `pass_on` is called when some were read, before what came of it is written.
    pub(crate) fn turn(
        &mut self,
        clock: Clock,
        recording: &RefCell<Recording>,
        pass_on: impl Fn(),
    ) -> bool {
        let begin_ns = clock.now_ns();
        self.sockets.wake();
        loop {
            (0..READS_PER_ROUND).any(|_| !self.read_some(clock, recording));
            pass_on();
            (0..WRITES_PER_ROUND).any(|_| !self.write_some(clock, recording));
            if self.agenda.is_empty() && self.sockets.sleep() {
                return false;
            }
            if clock.now_ns() - begin_ns > TURN_NS_MAX {
                return true;
            }
        }
    }

    /// Handles what some sockets have received. False if there was nothing.
    fn read_some(&mut self, clock: Clock, recording: &RefCell<Recording>) -> bool {
        if !self.sockets.look(1) {
            return false;
        }
        // All of it has been received just now.
        let now_ns = clock.now_ns();
        let recording = &mut *recording.borrow_mut();
        while let Some((key, event)) = self.sockets.next_event() {
            self.handle(now_ns, key, event, recording);
        }
        true
    }

    fn handle(&mut self, now_ns: i64, key: Key, event: Event, recording: &mut Recording) {
        let place = get(&mut self.places, key);
        if let Some(place) = &place {
            place.connection.handle.wake();
        }
        match (event, place) {
            (Event::Received(chunk), place) => {
                if let Some(place) = place {
                    place.receive(now_ns, self.sockets.bytes(&chunk), recording);
                }
                self.sockets.give_back(chunk);
            }
            (_, None) | (Event::Acceptable, _) => {}
            (Event::Finished, Some(place)) => place.finish(None),
            (Event::Broken(error), Some(place)) => place.finish(Some(error)),
            (Event::Disarmed, Some(place)) => place.reading = Reading::Off,
            (Event::Writable, Some(place)) => place.handle_writable(),
        }
    }

    /// Writes what the next connections have to say. False if there are none.
    fn write_some(&mut self, clock: Clock, recording: &RefCell<Recording>) -> bool {
        if self.agenda.is_empty() {
            return false;
        }
        let now_ns = clock.now_ns();
        let recording = &mut *recording.borrow_mut();
        while self.writes.len() < WRITES_PER_CALL
            && let Some(key) = self.agenda.next()
        {
            self.take_turn(now_ns, key, recording);
        }
        let writes = self.writes.iter().map(|key| {
            let place = &self.places[key.index as usize];
            (place.socket.as_fd(), place.connection.unsent())
        });
        self.sockets.write(writes, &mut self.results);
        for (key, result) in self.writes.drain(..).zip(self.results.drain(..)) {
            let place = &mut self.places[key.index as usize];
            if place.handle_written(result) == Writing::Blocked {
                self.sockets.await_room(key, place.socket.as_fd());
            }
        }
        true
    }

    /// Gives a connection its turn: arms or disarms its reads, and queues what it has to write.
    fn take_turn(&mut self, now_ns: i64, key: Key, recording: &mut Recording) {
        let Some(place) = get(&mut self.places, key) else { return };
        place.connection.handle.take_turn();
        if place.writing == Writing::Connecting {
            return;
        }
        let is_read = place.over || place.connection.takes_bytes();
        place.reading = self.sockets.steer(place.reading, is_read, key, place.socket.as_fd());
        if place.has_something_to_say(now_ns, recording) {
            place.connection.handle.record_written(now_ns);
            debug_assert!(!self.writes.contains(&key), "nobody wakes itself in its turn");
            self.writes.push(key);
        }
    }
}

impl Place {
    fn receive(&mut self, now_ns: i64, bytes: &[u8], recording: &mut Recording) {
        if !self.over {
            let handled = self.connection.receive(now_ns, bytes, recording);
            self.end_if_wrong(handled);
        }
    }

    fn end(&mut self, outcome: Result<()>) {
        self.over = true;
        self.connection.handle.end(outcome);
    }

    fn end_if_wrong<E: Into<anyhow::Error>>(&mut self, result: Result<(), E>) {
        if let Err(error) = result {
            self.end(Err(error.into()));
        }
    }

    /// Handles the end of what the peer sends, which is an error unless the connection is closing.
    fn finish(&mut self, error: Option<io::Error>) {
        self.reading = Reading::Ended;
        self.connection.handle.finish();
        if !self.over && !self.connection.handle.is_closing() {
            self.end(Err(match error {
                None => anyhow!("the broker closed the connection"),
                Some(error) => anyhow::Error::new(error).context("the connection broke"),
            }));
        }
    }

    fn handle_writable(&mut self) {
        if self.writing == Writing::Connecting
            && let Ok(Some(error)) = SockRef::from(&self.socket).take_error()
        {
            self.end(Err(error.into()));
        }
        self.writing = Writing::Open;
    }

    /// Lets it say what it has to say, if it can be written.
    fn has_something_to_say(&mut self, now_ns: i64, recording: &mut Recording) -> bool {
        if self.connection.handle.is_cut() && !self.over {
            self.end(Ok(()));
        }
        if self.over || self.writing != Writing::Open {
            return false;
        }
        let produced = self.connection.produce(now_ns, recording);
        self.end_if_wrong(produced);
        !self.over && !self.connection.unsent().is_empty()
    }

    /// Returns whether it takes more.
    fn handle_written(&mut self, result: io::Result<Written>) -> Writing {
        match result {
            Ok(Written { count, is_full }) => {
                self.connection.handle_written(count);
                self.writing = if is_full { Writing::Blocked } else { Writing::Open };
                if self.connection.has_left() {
                    self.end(Ok(()));
                }
            }
            // A connection that is closing may be closed by the broker first.
            Err(_) if self.connection.handle.is_closing() => self.end(Ok(())),
            Err(error) => {
                self.end(Err::<(), _>(error).context("the broker closed the connection"));
            }
        }
        self.writing
    }
}

fn get(places: &mut Slab<Place>, key: Key) -> Option<&mut Place> {
    places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)
}
