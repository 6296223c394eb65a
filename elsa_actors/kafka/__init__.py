"""Kafka's producers and consumers as supervised processes; what a user types is exported here.

supervisor.py starts the tree of a connection: client.py, then producer.py and, for the simple
consumer, consumer.py and worker.py, with process_manager.py to start one for each partition.
"""

from elsa_actors.kafka.apache import ApacheKafka
from elsa_actors.kafka.consumer import Consumer
from elsa_actors.kafka.embedded import EmbeddedKafka
from elsa_actors.kafka.errors import ConfigError, KafkaError, ProduceError
from elsa_actors.kafka.fetch import fetch, fetch_stream, search, search_keys, search_values
from elsa_actors.kafka.message import Message
from elsa_actors.kafka.message_handler import Ack, MessageHandler
from elsa_actors.kafka.partitioner import First, Md5, Murmur2, Random
from elsa_actors.kafka.produce import produce
from elsa_actors.kafka.supervisor import ElsaSupervisor, producers_ready
from elsa_actors.kafka.topic import create_topic, delete_topic, list_topics, topic_exists

__all__ = [
    "Ack",
    "ApacheKafka",
    "ConfigError",
    "Consumer",
    "ElsaSupervisor",
    "EmbeddedKafka",
    "First",
    "KafkaError",
    "Md5",
    "Message",
    "MessageHandler",
    "Murmur2",
    "ProduceError",
    "Random",
    "create_topic",
    "delete_topic",
    "fetch",
    "fetch_stream",
    "list_topics",
    "produce",
    "producers_ready",
    "search",
    "search_keys",
    "search_values",
    "topic_exists",
]
