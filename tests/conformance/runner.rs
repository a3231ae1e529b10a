//! Runs a case of the table in whatever world there is: real sockets, or shards without any.

use std::collections::HashMap;
use std::time::Duration;

use harness::notation::parse_raw;
use harness::peer::{End, Link, Outcome, Peer};
use harness::script::{Action, Case, Step};

/// A broker and a way to reach it.
pub(crate) trait World {
    type Link: Link;

    fn connect(&mut self) -> Self::Link;

    /// Lets time pass.
    fn wait(&mut self, duration: Duration);

    /// Ends a client's connection as an administrator.
    fn expel(&mut self, client_id: &str);
}

/// `Err` names the line of the file and what went wrong there.
pub(crate) fn run_case<W: World>(world: &mut W, case: &Case) -> Outcome {
    let mut clients = HashMap::new();
    for (line, step) in &case.steps {
        let outcome = match step {
            Step::Wait(duration) => {
                world.wait(*duration);
                Ok(())
            }
            Step::Expel(client_id) => {
                world.expel(client_id);
                Ok(())
            }
            Step::Client(name, action) => run_action(world, &mut clients, name, action),
        };
        outcome.map_err(|error| format!("{line}: {}: {error}", describe(step)))?;
    }
    for (name, client) in &mut clients {
        client.expect_no_rest().map_err(|error| format!("{}: {name}: {error}", case.line))?;
    }
    Ok(())
}

fn run_action<'a, W: World>(
    world: &mut W,
    clients: &mut HashMap<&'a str, Peer<W::Link>>,
    name: &'a str,
    action: &Action,
) -> Outcome {
    let opens = matches!(action, Action::Connect | Action::Send(_) | Action::SendRaw(_));
    let client = match clients.get_mut(name) {
        Some(client) => client,
        None if opens => clients.entry(name).or_insert_with(|| Peer::new(world.connect())),
        None => return Err("this client has no connection yet".into()),
    };
    if opens && client.is_closed() {
        client.reconnect(world.connect());
    }
    act(client, action)
}

fn act<L: Link>(client: &mut Peer<L>, action: &Action) -> Outcome {
    match action {
        Action::Connect => {}
        Action::Send(packet) => client.send(packet)?,
        Action::SendRaw(bytes) => client.send_bytes(&parse_raw(bytes)?),
        Action::Expect(packet) => client.expect(packet)?,
        Action::ExpectAnyOrder(packets) => {
            client.expect_any_order(&packets.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Action::ExpectClosed(within) => client.expect_closed(*within)?,
        Action::ExpectNothing => client.expect_nothing()?,
        Action::Close => client.end(End::Close),
        Action::Abort => client.end(End::Abort),
    }
    Ok(())
}

fn describe(step: &Step) -> String {
    match step {
        Step::Wait(duration) => format!("wait {duration:?}"),
        Step::Expel(client_id) => format!("expel {client_id}"),
        Step::Client(name, _) => format!("client {name}"),
    }
}
