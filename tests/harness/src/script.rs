//! The language of the conformance table.
//!
//! ```text
//! # a comment
//! case a second CONNECT is a protocol violation [MQTT-3.1.0-2]
//! a > CONNECT x                 client a sends; its first line opens its connection
//! a < CONNACK 0                 and receives exactly this packet next
//! a > PINGREQ & PINGREQ         several packets in one piece
//! a > raw c0 00 "text"          bytes as they stand
//! a < closed                    the broker closes the connection, without another byte
//! ```
//!
//! More steps: `a connect` (opens a connection and sends nothing), `a close` and `a abort` (ends
//! it without DISCONNECT, in order or by a reset), `a < nothing`, `a < closed within 900ms`,
//! `wait 500ms`, `expel x` (an administrator wants the client with this identifier away; only on
//! bare shards), `broker option=value` (an option of the broker, before the first step). Lines that
//! start with `a <~` and follow each other are packets that may come in any order.
//!
//! A case that says `only bare shards: why` is not run over sockets, and one that says `only
//! sockets: why` is run over nothing else; `only one shard: why` leaves out several shards and
//! cores.
//!
//! A case may say `differs mosquitto: why` where that broker is known to behave otherwise; the
//! table is then expected to fail against it and to hold for ringmq.

use std::time::Duration;

/// One file of the table.
pub struct Script {
    pub cases: Vec<Case>,
}

#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub line: usize,
    /// Such as `MQTT-3.1.0-2`.
    pub labels: Vec<String>,
    /// Options of the broker, by their names in its configuration file.
    pub options: Vec<(String, String)>,
    /// Why no real broker can run this case, where that is so.
    pub only_bare: Option<String>,
    /// Why no bare shards can run this case, where that is so.
    pub only_sockets: Option<String>,
    /// Why several shards cannot run this case, where that is so.
    pub only_one: Option<String>,
    /// Why mosquitto fails this case, where it does.
    pub differs: Option<String>,
    pub steps: Vec<(usize, Step)>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Wait(Duration),
    Expel(String),
    Client(String, Action),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Connect,
    Send(String),
    SendRaw(String),
    Expect(String),
    /// Exactly these packets, in any order.
    ExpectAnyOrder(Vec<String>),
    ExpectClosed(Option<Duration>),
    ExpectNothing,
    Close,
    Abort,
}

impl Script {
    /// Errors name the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut cases = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            parse_line(&mut cases, number, line)
                .map_err(|error| format!("{number}: {error}: {line}"))?;
        }
        Ok(Self { cases })
    }
}

fn parse_line(cases: &mut Vec<Case>, number: usize, line: &str) -> Result<(), String> {
    if let Some(title) = line.strip_prefix("case ") {
        cases.push(Case::parse(number, title));
        return Ok(());
    }
    let case = cases.last_mut().ok_or("a step outside a case")?;
    if let Some(setting) = line.strip_prefix("broker ") {
        let (name, value) = setting.split_once('=').ok_or("an option wants a value")?;
        case.options.push((name.to_owned(), value.to_owned()));
    } else if let Some(why) = line.strip_prefix("only bare shards: ") {
        case.only_bare = Some(why.to_owned());
    } else if let Some(why) = line.strip_prefix("only sockets: ") {
        case.only_sockets = Some(why.to_owned());
    } else if let Some(why) = line.strip_prefix("only one shard: ") {
        case.only_one = Some(why.to_owned());
    } else if let Some(why) = line.strip_prefix("differs mosquitto: ") {
        case.differs = Some(why.to_owned());
    } else {
        case.add_step(number, line)?;
    }
    Ok(())
}

impl Case {
    fn parse(line: usize, title: &str) -> Self {
        let (name, labels) = title.split_once('[').unwrap_or((title, ""));
        let labels = labels.split(['[', ']', ' ']).filter(|label| !label.is_empty());
        Self {
            name: name.trim().to_owned(),
            line,
            labels: labels.map(str::to_owned).collect(),
            options: Vec::new(),
            only_bare: None,
            only_sockets: None,
            only_one: None,
            differs: None,
            steps: Vec::new(),
        }
    }

    fn add_step(&mut self, number: usize, line: &str) -> Result<(), String> {
        if let Some(duration) = line.strip_prefix("wait ") {
            self.steps.push((number, Step::Wait(parse_duration(duration)?)));
            return Ok(());
        }
        if let Some(client_id) = line.strip_prefix("expel ") {
            self.steps.push((number, Step::Expel(client_id.to_owned())));
            return Ok(());
        }
        let (client, rest) = line.split_once(' ').ok_or("a step wants a client and an action")?;
        if let Some(packet) = rest.strip_prefix("<~ ") {
            self.add_unordered(number, client, packet.trim());
            return Ok(());
        }
        let action = parse_action(rest.trim())?;
        self.steps.push((number, Step::Client(client.to_owned(), action)));
        Ok(())
    }

    /// Joins the group that the line before belongs to.
    fn add_unordered(&mut self, number: usize, client: &str, packet: &str) {
        if let Some((last, Step::Client(name, Action::ExpectAnyOrder(group)))) =
            self.steps.last_mut()
            && name == client
            && *last + group.len() == number
        {
            group.push(packet.to_owned());
            return;
        }
        let group = Action::ExpectAnyOrder(vec![packet.to_owned()]);
        self.steps.push((number, Step::Client(client.to_owned(), group)));
    }
}

fn parse_action(text: &str) -> Result<Action, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match (word, rest.trim()) {
        ("connect", "") => Ok(Action::Connect),
        ("close", "") => Ok(Action::Close),
        ("abort", "") => Ok(Action::Abort),
        ("<", "nothing") => Ok(Action::ExpectNothing),
        ("<", "closed") => Ok(Action::ExpectClosed(None)),
        ("<", rest) => match rest.strip_prefix("closed within ") {
            Some(duration) => Ok(Action::ExpectClosed(Some(parse_duration(duration)?))),
            None => Ok(Action::Expect(rest.to_owned())),
        },
        (">", rest) => match rest.strip_prefix("raw ") {
            Some(bytes) => Ok(Action::SendRaw(bytes.to_owned())),
            None => Ok(Action::Send(rest.to_owned())),
        },
        _ => Err("an unknown step".into()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix("ms").and_then(|number| number.trim().parse().ok());
    number.map(Duration::from_millis).ok_or_else(|| "a time is written 500ms".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_labels_options_and_steps() {
        let script = Script::parse(
            "# comment\n\
             case two things [MQTT-1.1.1-1] [MQTT-1.1.1-2]\n\
             broker packet_bytes_max=100\n\
             differs mosquitto: it does not\n\
             a > CONNECT x\n\
             a < CONNACK 0\n\
             a <~ PUBACK id=1\n\
             a <~ PUBACK id=2\n\
             wait 20ms\n\
             a < closed within 900ms\n",
        );
        let case = script.unwrap().cases.pop().unwrap();
        assert_eq!(case.name, "two things");
        assert_eq!(case.labels, ["MQTT-1.1.1-1", "MQTT-1.1.1-2"]);
        assert_eq!(case.options, [("packet_bytes_max".to_owned(), "100".to_owned())]);
        assert_eq!(case.differs.as_deref(), Some("it does not"));
        let steps: Vec<Step> = case.steps.into_iter().map(|(_, step)| step).collect();
        let of_a = |action| Step::Client("a".into(), action);
        let expected = [
            of_a(Action::Send("CONNECT x".into())),
            of_a(Action::Expect("CONNACK 0".into())),
            of_a(Action::ExpectAnyOrder(vec!["PUBACK id=1".into(), "PUBACK id=2".into()])),
            Step::Wait(Duration::from_millis(20)),
            of_a(Action::ExpectClosed(Some(Duration::from_millis(900)))),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn mistakes_name_the_line() {
        for text in ["a > X", "case x\nhello", "case x\nwait long", "case x\na jump"] {
            let error = Script::parse(text).err().unwrap();
            assert!(error.starts_with(char::is_numeric), "{error}");
        }
    }
}
