"""Scenarios for paho-mqtt against a broker on the loopback interface.

    paho_scenarios.py SCENARIO PORT

Ends with status 0 if the broker did as it should, with a traceback if not.
"""

import queue
import socket
import struct
import sys
import time

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 20
QUIET = 0.3


class Client:
    """A paho client whose callbacks have become return values."""

    def __init__(self, name, clean=True, protocol=paho.MQTTv311, will=None, manual_ack=False):
        self.received = queue.Queue()
        self.events = queue.Queue()
        self.session_present = None
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=clean,
            protocol=protocol,
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        self.paho.on_message = lambda client, data, message: self.received.put(message)
        self.paho.on_connect = lambda client, data, flags, code, properties: self.events.put(
            ("connected", flags.session_present, code)
        )
        self.paho.on_disconnect = lambda *arguments: self.events.put(("disconnected",))
        self.paho.on_subscribe = lambda client, data, mid, codes, properties: self.events.put(
            ("subscribed", [code.value for code in codes])
        )
        self.paho.on_unsubscribe = lambda *arguments: self.events.put(("unsubscribed",))
        self.paho.max_inflight_messages_set(100)
        if will:
            self.paho.will_set(*will)

    def connect(self):
        self.paho.connect("127.0.0.1", PORT)
        self.paho.loop_start()
        kind, self.session_present, code = self.event("connected")
        assert not code.is_failure, code
        return self

    def event(self, kind):
        event = self.events.get(timeout=PATIENCE)
        assert event[0] == kind, f"{event} instead of {kind}"
        return event

    def subscribe(self, *filters):
        self.paho.subscribe(list(filters))
        _, granted = self.event("subscribed")
        assert granted == [qos for _, qos in filters], granted
        return self

    def publish(self, topic, payload, qos=1, retain=False):
        """Waits until the broker has taken the message over."""
        self.paho.publish(topic, payload, qos, retain).wait_for_publish(PATIENCE)

    def next(self):
        return self.received.get(timeout=PATIENCE)

    def expect(self, *messages):
        """Expects (topic, payload, QoS) in this order."""
        for expected in messages:
            message = self.next()
            got = (message.topic, message.payload.decode(), message.qos)
            assert got == expected, f"{got} instead of {expected}"

    def expect_nothing(self):
        try:
            message = self.received.get(timeout=QUIET)
        except queue.Empty:
            return
        raise AssertionError(f"{message.topic} {message.payload[:40]} instead of nothing")

    def disconnect(self):
        self.paho.disconnect()
        self.event("disconnected")
        self.paho.loop_stop()

    def crash(self):
        """Resets the connection, as when a process is killed."""
        linger = struct.pack("ii", 1, 0)
        self.paho.socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.paho.loop_stop()
        self.paho.socket().close()


def order_at_every_qos():
    for qos in (0, 1, 2):
        subscriber = Client(f"s{qos}").connect().subscribe(("order", qos))
        publisher = Client(f"p{qos}").connect()
        pending = [publisher.paho.publish("order", str(number), qos) for number in range(600)]
        for message in pending:
            message.wait_for_publish(PATIENCE)
        subscriber.expect(*(("order", str(number), qos) for number in range(600)))
        subscriber.expect_nothing()


def large_payload():
    payload = bytes(number * 7919 % 256 for number in range(1_000_000))
    subscriber = Client("s").connect().subscribe(("big", 2))
    publisher = Client("p").connect()
    for qos in (0, 1, 2):
        publisher.publish("big", payload, qos)
        message = subscriber.next()
        assert message.payload == payload and message.qos == qos


def retained():
    publisher = Client("p").connect()
    publisher.publish("r/a", "old", 1, retain=True)
    publisher.publish("r/a", "new", 2, retain=True)
    publisher.publish("r/b", "other", 0, retain=True)
    publisher.publish("r/b", "not retained", 1)
    subscriber = Client("s").connect().subscribe(("r/+", 1))
    messages = sorted((subscriber.next() for _ in range(2)), key=lambda message: message.topic)
    got = [(m.topic, m.payload, m.qos, m.retain) for m in messages]
    assert got == [("r/a", b"new", 1, True), ("r/b", b"other", 0, True)], got
    publisher.publish("r/a", "", 1, retain=True)
    message = subscriber.next()
    assert (message.payload, message.retain) == (b"", False), message
    late = Client("late").connect().subscribe(("r/a", 1))
    late.expect_nothing()


def will():
    for qos in (0, 1, 2):
        watcher = Client(f"w{qos}").connect().subscribe(("gone", 2))
        victim = Client("victim", will=("gone", "bye", qos, False)).connect()
        victim.crash()
        watcher.expect(("gone", "bye", qos))
        leaver = Client("leaver", will=("gone", "never", qos, False)).connect()
        leaver.disconnect()
        watcher.expect_nothing()
        watcher.disconnect()


def take_over():
    publisher = Client("p").connect()
    first = Client("same", clean=False).connect().subscribe(("t", 1))
    second = Client("same", clean=False).connect()
    assert second.session_present
    first.event("disconnected")
    publisher.publish("t", "once")
    second.expect(("t", "once", 1))
    second.expect_nothing()
    first.expect_nothing()


def offline_queue():
    for qos in (1, 2):
        subscriber = Client("s", clean=False).connect().subscribe(("q/#", 2))
        assert not subscriber.session_present
        subscriber.disconnect()
        publisher = Client("p").connect()
        for number in range(100):
            publisher.publish("q/x", str(number), qos)
        again = Client("s", clean=False).connect()
        assert again.session_present
        again.expect(*(("q/x", str(number), qos) for number in range(100)))
        again.expect_nothing()
        again.disconnect()
        fresh = Client("s", clean=True).connect()
        assert not fresh.session_present
        publisher.publish("q/x", "for nobody", qos)
        fresh.expect_nothing()
        fresh.disconnect()


def redelivery_with_dup():
    subscriber = Client("s", clean=False, manual_ack=True).connect().subscribe(("t", 1))
    publisher = Client("p").connect()
    for number in range(10):
        publisher.publish("t", str(number))
    ids = [subscriber.next().mid for _ in range(10)]
    subscriber.crash()
    again = Client("s", clean=False).connect()
    redelivered = [again.next() for _ in range(10)]
    assert all(message.dup for message in redelivered)
    assert [message.payload.decode() for message in redelivered] == [str(n) for n in range(10)]
    assert [message.mid for message in redelivered] == ids
    again.expect_nothing()
    publisher.publish("t", "new")
    message = again.next()
    assert (message.payload, message.dup) == (b"new", False)


def exactly_once_across_reconnects():
    """The subscriber crashes again and again; every message comes once. paho keeps the ids of the
    QoS 2 messages it has begun to receive in one client object, so that object reconnects."""
    subscriber = Client("s", clean=False).connect().subscribe(("t", 2))
    publisher = Client("p").connect()
    pending = []
    for round_number in range(5):
        for number in range(20):
            pending.append(publisher.paho.publish("t", str(round_number * 20 + number), 2))
        subscriber.paho.socket().shutdown(socket.SHUT_RDWR)
        subscriber.event("disconnected")
        subscriber.paho.loop_stop()
        subscriber.connect()
        assert subscriber.session_present
    for message in pending:
        message.wait_for_publish(PATIENCE)
    subscriber.expect(*(("t", str(number), 2) for number in range(100)))
    subscriber.expect_nothing()


def overlapping_subscriptions():
    subscriber = Client("s").connect().subscribe(("o/x", 0), ("o/+", 2), ("o/#", 1))
    publisher = Client("p").connect()
    publisher.publish("o/x", "once", 2)
    subscriber.expect(("o/x", "once", 2))
    subscriber.expect_nothing()


def dollar_topics():
    everything = Client("e").connect().subscribe(("#", 0), ("+/x", 0))
    own = Client("o").connect().subscribe(("$own/#", 0))
    publisher = Client("p").connect()
    publisher.publish("$own/x", "hidden", 0)
    own.expect(("$own/x", "hidden", 0))
    everything.expect_nothing()


def unsubscribe():
    client = Client("c").connect().subscribe(("u/+", 1), ("u/#", 1))
    client.paho.unsubscribe(["u/+", "u/#", "none"])
    client.event("unsubscribed")
    client.publish("u/x", "for nobody")
    client.expect_nothing()


def mqtt_3_1():
    subscriber = Client("s", protocol=paho.MQTTv31).connect().subscribe(("t", 2))
    publisher = Client("p", protocol=paho.MQTTv31).connect()
    for qos in (0, 1, 2):
        publisher.publish("t", "old protocol", qos)
        subscriber.expect(("t", "old protocol", qos))


def empty_client_id():
    first = Client("").connect().subscribe(("t", 0))
    second = Client("").connect().subscribe(("t", 0))
    second.publish("t", "both", 0)
    first.expect(("t", "both", 0))
    second.expect(("t", "both", 0))


def many_clients():
    clients = [Client(f"c{n}").connect().subscribe((f"m/{n}", 1), ("all", 0)) for n in range(60)]
    for number, client in enumerate(clients):
        client.publish(f"m/{(number + 1) % 60}", f"from {number}")
    for number, client in enumerate(clients):
        client.expect((f"m/{number}", f"from {(number - 1) % 60}", 1))
    clients[0].publish("all", "everybody", 0)
    for client in clients:
        client.expect(("all", "everybody", 0))
        client.disconnect()


def properties(packet, **values):
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class ClientV5(Client):
    """A paho client that speaks MQTT 5.0."""

    def __init__(self, name, will=None, will_properties=None):
        super().__init__(name, clean=None, protocol=paho.MQTTv5)
        self.terms = None
        self.paho.on_connect = self.connected
        if will:
            self.paho.will_set(*will, properties=will_properties)

    def connected(self, client, data, flags, code, terms):
        self.terms = terms
        self.events.put(("connected", flags.session_present, code))

    def connect(self, clean=True, **values):
        self.paho.connect(
            "127.0.0.1",
            PORT,
            clean_start=clean,
            properties=properties(PacketTypes.CONNECT, **values),
        )
        self.paho.loop_start()
        kind, self.session_present, code = self.event("connected")
        assert not code.is_failure, code
        return self

    def subscribe(self, filter, qos, **values):
        made = properties(PacketTypes.SUBSCRIBE, **values)
        self.paho.subscribe(filter, options=SubscribeOptions(qos), properties=made)
        _, granted = self.event("subscribed")
        assert granted == [qos], granted
        return self

    def publish(self, topic, payload, qos=1, retain=False, **values):
        made = properties(PacketTypes.PUBLISH, **values)
        self.paho.publish(topic, payload, qos, retain, made).wait_for_publish(PATIENCE)


def v5_properties():
    for qos in (0, 1, 2):
        subscriber = ClientV5(f"s{qos}").connect().subscribe("t", qos)
        publisher = ClientV5(f"p{qos}").connect()
        pairs = [("z", "1"), ("a", "2"), ("z", "1"), ("\u00e9", "")]
        publisher.publish(
            "t",
            "hello",
            qos,
            PayloadFormatIndicator=1,
            ContentType="text/plain",
            ResponseTopic="answers",
            CorrelationData=b"\x00\xff",
            UserProperty=pairs,
        )
        message = subscriber.next()
        got = message.properties
        assert (message.payload, message.qos) == (b"hello", qos), message
        assert got.PayloadFormatIndicator == 1 and got.ContentType == "text/plain", got
        assert got.ResponseTopic == "answers" and got.CorrelationData == b"\x00\xff", got
        assert got.UserProperty == pairs, got
        subscriber.disconnect()


def v5_request_response():
    server = ClientV5("server").connect().subscribe("work", 1)
    asker = ClientV5("asker").connect().subscribe("answers/asker", 1)
    for number in range(10):
        correlation = struct.pack("!I", number)
        asker.publish(
            "work", str(number), ResponseTopic="answers/asker", CorrelationData=correlation
        )
        request = server.next()
        asked = request.properties
        answer = str(int(request.payload) * 2)
        server.publish(asked.ResponseTopic, answer, CorrelationData=asked.CorrelationData)
        response = asker.next()
        assert int(response.payload) == number * 2, response.payload
        assert response.properties.CorrelationData == correlation


def v5_subscription_identifiers():
    subscriber = ClientV5("s").connect()
    subscriber.subscribe("a/b", 0, SubscriptionIdentifier=1)
    subscriber.subscribe("a/+", 1, SubscriptionIdentifier=200_000)
    ClientV5("p").connect().publish("a/b", "once")
    message = subscriber.next()
    assert sorted(message.properties.SubscriptionIdentifier) == [1, 200_000], message.properties
    assert message.qos == 1
    subscriber.expect_nothing()


def v5_shared_subscription():
    members = [ClientV5(f"m{n}").connect().subscribe("$share/g/work/+", 1) for n in range(3)]
    publisher = ClientV5("p").connect()
    for number in range(30):
        publisher.publish(f"work/{number}", str(number))
    time.sleep(QUIET)
    counts = [member.received.qsize() for member in members]
    assert sum(counts) == 30 and all(counts), counts


def v5_session_expiry():
    subscriber = ClientV5("s").connect(SessionExpiryInterval=60).subscribe("t", 1)
    subscriber.crash()
    publisher = ClientV5("p").connect()
    publisher.publish("t", "kept")
    again = ClientV5("s").connect(clean=False, SessionExpiryInterval=1)
    assert again.session_present
    again.expect(("t", "kept", 1))
    again.disconnect()
    time.sleep(1.5)
    late = ClientV5("s").connect(clean=False)
    assert not late.session_present


def v5_message_expiry():
    subscriber = ClientV5("s").connect(SessionExpiryInterval=60).subscribe("t", 1)
    subscriber.disconnect()
    publisher = ClientV5("p").connect()
    publisher.publish("t", "gone", MessageExpiryInterval=1)
    publisher.publish("t", "fresh", MessageExpiryInterval=60)
    time.sleep(1.5)
    again = ClientV5("s").connect(clean=False)
    message = again.next()
    assert message.payload == b"fresh", message.payload
    assert 57 <= message.properties.MessageExpiryInterval <= 59, message.properties
    again.expect_nothing()


def v5_will_delay():
    watcher = ClientV5("w").connect().subscribe("gone", 1)
    delay = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=1, UserProperty=("k", "v"))
    victim = ClientV5("victim", ("gone", "bye", 1, False), delay)
    victim.connect(SessionExpiryInterval=60)
    victim.crash()
    watcher.expect_nothing()
    message = watcher.next()
    assert message.payload == b"bye", message.payload
    assert message.properties.UserProperty == [("k", "v")], message.properties
    victim = ClientV5("victim", ("gone", "bye", 1, False), delay)
    victim.connect(SessionExpiryInterval=60)
    victim.crash()
    ClientV5("victim").connect(clean=False)
    time.sleep(1)
    watcher.expect_nothing()


def v5_topic_alias():
    subscriber = ClientV5("s").connect(TopicAliasMaximum=5).subscribe("long/topic/#", 1)
    publisher = ClientV5("p").connect()
    assert publisher.terms.TopicAliasMaximum > 0, publisher.terms
    publisher.publish("long/topic/1", "one", TopicAlias=1)
    message = subscriber.next()
    assert (message.topic, message.properties.TopicAlias) == ("long/topic/1", 1)
    publisher.publish("long/topic/1", "two")
    message = subscriber.next()
    assert (message.topic, message.properties.TopicAlias) == ("", 1)


def v5_reasons():
    client = ClientV5("").connect()
    assert client.terms.AssignedClientIdentifier, client.terms
    codes = queue.Queue()
    client.paho.on_publish = lambda client, data, mid, code, properties: codes.put(code.value)
    client.publish("nobody/listens", "x", 1)
    assert codes.get(timeout=PATIENCE) == 0x10
    reasons = queue.Queue()
    client.paho.on_disconnect = lambda client, data, flags, code, properties: reasons.put(flags)
    ClientV5(client.terms.AssignedClientIdentifier).connect()
    # paho does not read the reason of a DISCONNECT that has no properties.
    assert reasons.get(timeout=PATIENCE).is_disconnect_packet_from_server


SCENARIO, PORT = sys.argv[1], int(sys.argv[2])
globals()[SCENARIO]()
