//! Topic aliases, both ways. They belong to one connection [MQTT-3.3.2-7].

use ahash::AHashMap;

use crate::mqtt::TopicName;

use super::ProtocolError;

/// Aliases that the client gives to topics.
#[derive(Debug, Default)]
pub(super) struct InboundAliases {
    topics: AHashMap<u16, Box<str>>,
    /// Bytes of these topics.
    bytes: usize,
}

impl InboundAliases {
    /// Returns the topic that an alias stands for.
    pub(super) fn topic(&self, alias: u16) -> Option<&str> {
        self.topics.get(&alias).map(|topic| &**topic)
    }

    /// The topic of a publish: the one that it names, which its alias stands for from now on, or
    /// the one that its alias stands for. The client was told that `count_max` is the highest.
    pub(super) fn resolve<'a>(
        &'a mut self,
        alias: u16,
        topic: TopicName<'a>,
        count_max: u16,
        bytes_max: usize,
    ) -> Result<TopicName<'a>, ProtocolError> {
        if alias == 0 || alias > count_max {
            return Err(ProtocolError::TopicAlias); // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
        }
        if !topic.is_empty() {
            let before = self.topics.get(&alias).map_or(0, |topic| topic.len());
            let bytes = self.bytes - before + topic.as_str().len();
            if bytes > bytes_max {
                return Err(ProtocolError::TopicAliasBytes);
            }
            self.bytes = bytes;
            self.topics.insert(alias, topic.as_str().into());
            return Ok(topic);
        }
        let topic = self.topics.get(&alias).ok_or(ProtocolError::TopicAliasUnknown)?;
        Ok(TopicName::from_validated(topic))
    }
}

impl InboundAliases {
    /// Bytes of memory that the aliases take.
    pub(super) fn memory_bytes(&self) -> usize {
        let entry_bytes = size_of::<(u16, Box<str>)>() + 1;
        size_of::<Self>() + self.topics.capacity() * 8 / 7 * entry_bytes + self.bytes
    }
}

/// Aliases that the broker gives to topics: the first topics that are sent keep theirs.
#[derive(Debug)]
pub struct OutboundAliases {
    /// What the client allows to be the highest.
    count_max: u16,
    /// What the topics may have together.
    bytes_max: usize,
    bytes: usize,
    aliases: AHashMap<Box<str>, u16>,
}

/// How to name the topic of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// By its name alone.
    Name,
    /// By its name, and from then on by this alias.
    Define(u16),
    /// By its alias alone.
    Alias(u16),
}

impl OutboundAliases {
    /// None if the client takes no aliases.
    #[must_use]
    pub fn new(count_max: u16, bytes_max: usize) -> Option<Box<Self>> {
        let aliases = AHashMap::default();
        (count_max > 0).then(|| Box::new(Self { count_max, bytes_max, bytes: 0, aliases }))
    }

    /// How to name this topic next.
    #[must_use]
    pub fn naming(&self, topic: &str) -> Naming {
        match self.aliases.get(topic) {
            Some(alias) => Naming::Alias(*alias),
            None if self.has_room(topic) => Naming::Define(self.aliases.len() as u16 + 1),
            None => Naming::Name,
        }
    }

    /// The client was told this alias of the topic.
    pub fn define(&mut self, topic: &str, alias: u16) {
        debug_assert!((1..=self.count_max).contains(&alias), "the client allows it");
        self.bytes += topic.len();
        self.aliases.insert(topic.into(), alias);
    }

    /// Bytes of memory that the aliases take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let entry_bytes = size_of::<(Box<str>, u16)>() + 1;
        size_of::<Self>() + self.aliases.capacity() * 8 / 7 * entry_bytes + self.bytes
    }

    fn has_room(&self, topic: &str) -> bool {
        self.aliases.len() < self.count_max.into() && self.bytes + topic.len() <= self.bytes_max
    }
}
