//! MQTT.js, the JavaScript client: one test for each scenario of `clients/mqttjs_scenarios.mjs`.

use crate::run_scenario;

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run_scenario("node", "mqttjs_scenarios.mjs", stringify!($name));
        })*
    };
}

scenarios! {
    order_at_every_qos
    large_payload
    retained
    will
    offline_queue
    many_clients
    v5_properties
    v5_request_response
    v5_topic_alias
}
