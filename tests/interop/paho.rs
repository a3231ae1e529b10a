//! paho-mqtt, the Python client: one test for each scenario of `clients/paho_scenarios.py`.

use crate::{root, run_scenario};

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let python = root().join("target/interop/venv/bin/python");
            run_scenario(&python.to_string_lossy(), "paho_scenarios.py", stringify!($name));
        })*
    };
}

scenarios! {
    order_at_every_qos
    large_payload
    retained
    will
    take_over
    offline_queue
    redelivery_with_dup
    exactly_once_across_reconnects
    overlapping_subscriptions
    dollar_topics
    unsubscribe
    mqtt_3_1
    empty_client_id
    many_clients
    v5_properties
    v5_request_response
    v5_subscription_identifiers
    v5_shared_subscription
    v5_session_expiry
    v5_message_expiry
    v5_will_delay
    v5_topic_alias
    v5_reasons
}
