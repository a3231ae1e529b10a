//! The options that scenarios share.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringmq::mqtt::{QoS, Version};
use serde::Serialize;

use crate::output::OutputOptions;
use crate::plan::payload::{RunId, STAMP_BYTES};
use crate::plan::step::{Step, VisitPace};
use crate::plan::{Credentials, Load, Plan, by_name, random};
use crate::scenario::values::{
    SourceIps, broker, interval, payload_bytes, prefix, rate, seconds, seconds_above_zero,
    source_ips,
};

const RATE_DEFAULT: f64 = 100.0;

/// Options of every scenario, as they go into the report.
#[derive(Args, Serialize, Clone)]
pub(crate) struct RunOptions {
    /// The broker under test
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883", value_parser = broker)]
    broker: String,
    /// Quality of service of publishes and subscriptions
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Seconds between two points of the plots, and of the live progress
    #[arg(long, value_name = "S", default_value = "1", value_parser = interval)]
    interval: f64,
    /// Executors, one thread each
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    cores: u32,
    /// Keep-alive of every client in seconds; 0 switches it off
    #[arg(long, value_name = "S", default_value_t = 60)]
    keep_alive: u16,
    /// Seconds that a client may take to connect and subscribe
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds_above_zero)]
    connect_timeout: f64,
    /// What client ids and topics begin with
    #[arg(long, value_name = "TEXT", default_value = "rlg", value_parser = prefix)]
    client_prefix: String,
    /// Connect from these addresses in turn, each of which has ports of its own: A,B,C or a range
    /// such as 127.0.0.2-127.0.0.20
    #[arg(long, value_name = "IPS", value_parser = source_ips)]
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ips: Option<SourceIps>,
    /// Measure so often; the report has all runs and how far they lie apart
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// The protocol to speak
    #[arg(long, value_name = "VERSION", value_enum, default_value_t = Protocol::V311)]
    mqtt_version: Protocol,
    /// User name of every client
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Password of every client
    #[arg(long, value_name = "TEXT", requires = "username")]
    #[serde(skip)]
    password: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    output: OutputOptions,
}

/// How fast messages are published, and how large they are.
#[derive(Args, Serialize, Clone)]
pub(crate) struct LoadOptions {
    /// Open loop: publishes per second in all, whatever the broker does [default: 100]
    #[arg(long, value_name = "R", conflicts_with = "window", value_parser = rate)]
    rate: Option<f64>,
    /// Closed loop instead: messages outstanding per publisher; one is outstanding until it has
    /// reached all subscribers (and, at QoS 1 and 2, is acknowledged)
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    window: Option<u32>,
    /// Bytes of a payload; the stamp that is measured by takes 40 of them
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = payload_bytes)]
    payload: usize,
    /// Seconds to wait for the last deliveries; what has not come by then is lost
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    drain: f64,
}

/// How long messages are published, for scenarios whose load has no end of its own.
#[derive(Args, Serialize, Clone)]
pub(crate) struct TimeOptions {
    /// Seconds to measure for
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds_above_zero)]
    duration: f64,
    /// Seconds of the same load before measuring
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    warmup: f64,
}

/// How fast clients come, for scenarios that measure that.
#[derive(Args, Serialize, Clone)]
pub(crate) struct VisitOptions {
    /// Open loop: clients that connect per second; without it as many as --at-once allows
    #[arg(long, value_name = "R", value_parser = rate)]
    connect_rate: Option<f64>,
    /// Clients that may be on their way at once; many brokers listen with a backlog of 100
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    at_once: u32,
}

impl VisitOptions {
    pub(crate) fn pace(&self) -> VisitPace {
        VisitPace { rate_per_s: self.connect_rate, at_once: self.at_once }
    }
}

#[derive(ValueEnum, Serialize, Clone, Copy)]
enum Protocol {
    #[value(name = "3.1")]
    #[serde(rename = "3.1")]
    V31,
    #[value(name = "3.1.1")]
    #[serde(rename = "3.1.1")]
    V311,
    #[value(name = "5", alias = "5.0")]
    #[serde(rename = "5")]
    V5,
}

impl RunOptions {
    /// Makes a plan without clients, for a scenario to fill in.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            scenario: "",
            cast: String::new(),
            settings: serde_json::Value::Null,
            run: RunId::new(random()),
            broker: self.broker.clone(),
            version: match self.mqtt_version {
                Protocol::V31 => Version::V31,
                Protocol::V311 => Version::V311,
                Protocol::V5 => Version::V5,
            },
            credentials: self.credentials(),
            qos: QoS::try_from(self.qos).expect("clap allows 0 to 2"),
            publisher_count: 0,
            topics_per_publisher: 1,
            subscriber_count: 0,
            interest: |_, _| 0..0,
            filters: by_name,
            load: Load::Open { rate_per_s: RATE_DEFAULT },
            message_count: None,
            retain: false,
            live: true,
            extras: None,
            steps: vec![Step::Assemble, Step::Flow],
            group_size: 1,
            churn: None,
            incident: None,
            payload_bytes: STAMP_BYTES,
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            drain: Duration::ZERO,
            interval: Duration::from_secs_f64(self.interval),
            connect_timeout: Duration::from_secs_f64(self.connect_timeout),
            executor_count: self.cores,
            keep_alive_s: self.keep_alive,
            client_prefix: self.client_prefix.clone(),
            source_ips: self.source_ips.as_ref().map_or_else(Vec::new, |ips| ips.0.clone()),
            repeat_count: self.repeats,
            search: None,
        }
    }

    fn credentials(&self) -> Option<Credentials> {
        let username = self.username.clone()?;
        Some(Credentials { username, password: self.password.clone() })
    }
}

impl LoadOptions {
    /// Sets what these options say.
    pub(crate) fn load(&self, plan: Plan) -> Plan {
        Plan {
            load: match self.window {
                Some(window_size) => Load::Closed { window_size },
                None => Load::Open { rate_per_s: self.rate.unwrap_or(RATE_DEFAULT) },
            },
            payload_bytes: self.payload,
            drain: Duration::from_secs_f64(self.drain),
            ..plan
        }
    }

    /// Adds the default of the load, which is not one option alone.
    pub(crate) fn completed(mut self) -> Self {
        if self.window.is_none() {
            self.rate = self.rate.or(Some(RATE_DEFAULT));
        }
        self
    }
}

impl TimeOptions {
    /// Sets what these options say.
    pub(crate) fn times(&self, plan: Plan) -> Plan {
        Plan {
            warmup: Duration::from_secs_f64(self.warmup),
            duration: Duration::from_secs_f64(self.duration),
            ..plan
        }
    }
}
