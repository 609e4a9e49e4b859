//! The parameters of requests.

use crate::control::percent;
use crate::p2p::{Event, Topic, TopicError, history};

/// What is wrong with a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// A parameter that there is not, twice the same, or one that cannot be decoded.
    #[error("the parameters of this request are {0}, percent-encoded and each at most once")]
    Parameters(&'static str),
    /// Not a topic's name.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// No such events.
    #[error("{0:?} is no type of event; there are {known}", known = Event::TYPES.join(", "))]
    Type(String),
    /// Not a number.
    #[error("limit is a number of messages, at most {most}", most = history::MAX_MESSAGES)]
    Limit,
}

impl Wrong {
    /// For programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Wrong::Topic(_) => "bad_topic",
            _ => "bad_query",
        }
    }
}

/// The parameters by name, decoded.
fn parameters<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
    usage: &'static str,
) -> Result<[Option<String>; N], Wrong> {
    let mut values = [const { None }; N];
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let wrong = Wrong::Parameters(usage);
        let (name, value) = pair.split_once('=').ok_or(wrong.clone())?;
        let place = names.iter().position(|known| *known == name).ok_or(wrong.clone())?;
        if values[place].replace(percent::decode(value).ok_or(wrong.clone())?).is_some() {
            return Err(wrong);
        }
    }
    Ok(values)
}

/// Which events a listener wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    topic: Option<Topic>,
    types: Option<Vec<&'static str>>,
}

impl Wanted {
    /// Reads `topic=NAME&types=A,B`.
    pub(super) fn read(query: Option<&str>) -> Result<Self, Wrong> {
        let [topic, types] = parameters(query, ["topic", "types"], "topic=NAME and types=A,B,…")?;
        let known = |name: &str| {
            Event::TYPES.into_iter().find(|known| *known == name).ok_or_else(|| Wrong::Type(name.to_owned()))
        };
        Ok(Self {
            topic: topic.map(|name| name.parse()).transpose()?,
            types: types.map(|types| types.split(',').map(known).collect()).transpose()?,
        })
    }

    /// With a topic, only what is about it; with types, only those. The stream's own beginning and gaps always.
    pub(super) fn includes(&self, event: &Event) -> bool {
        matches!(event, Event::Subscribed | Event::Lagged { .. })
            || (self.topic.as_ref().is_none_or(|topic| event.topic() == Some(topic))
                && self.types.as_ref().is_none_or(|types| types.contains(&event.kind())))
    }
}

/// Reads `limit=N`; all messages without it.
pub(super) fn limit(query: Option<&str>) -> Result<usize, Wrong> {
    let [limit] = parameters(query, ["limit"], "limit=N")?;
    let Some(limit) = limit else { return Ok(history::MAX_MESSAGES) };
    limit.parse().ok().filter(|limit| *limit <= history::MAX_MESSAGES).ok_or(Wrong::Limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_types_are_decoded() {
        let wanted = |query| Wanted::read(Some(query));
        let topic = |query| wanted(query).unwrap().topic.unwrap().to_string();
        assert_eq!(topic("topic=lobby"), "lobby");
        assert_eq!(topic("types=message&topic=r%C3%A4ume%2F1+2"), "räume/1+2");
        assert_eq!(Wanted::read(None), Ok(Wanted::default()));
        assert_eq!(wanted("types=message,lagged").unwrap().types, Some(vec!["message", "lagged"]));
        for wrong in ["", "lobby", "topic=a&topic=b", "topic=%", "topic=%4", "topic=%zz", "topic=%ff", "t=1"]
        {
            assert!(matches!(wanted(wrong), Err(Wrong::Parameters(_))), "{wrong}");
        }
        assert!(matches!(wanted("topic=a%20b"), Err(Wrong::Topic(_))));
        for wrong in ["types=", "types=message,", "types=Message", "types=nothing"] {
            assert!(matches!(wanted(wrong), Err(Wrong::Type(_))), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_a_number_that_can_be_kept() {
        assert_eq!(limit(None), Ok(history::MAX_MESSAGES));
        assert_eq!(limit(Some("limit=0")), Ok(0));
        assert_eq!(limit(Some("limit=100")), Ok(100));
        for wrong in ["limit=101", "limit=-1", "limit=", "limit=x", "limit=99999999999999999999"] {
            assert_eq!(limit(Some(wrong)), Err(Wrong::Limit), "{wrong}");
        }
        assert!(limit(Some("last=1")).is_err());
    }
}
