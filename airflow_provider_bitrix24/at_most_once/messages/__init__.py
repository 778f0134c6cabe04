"""What people read: the messages of the engine, made of facts.

Each says what happened to which object, whether money may have been recorded, and what to do next.
"""

from airflow_provider_bitrix24.at_most_once.messages.adding import *
from airflow_provider_bitrix24.at_most_once.messages.common import *
from airflow_provider_bitrix24.at_most_once.messages.completing import *
from airflow_provider_bitrix24.at_most_once.messages.deciding import *
from airflow_provider_bitrix24.at_most_once.messages.outcome import *
from airflow_provider_bitrix24.at_most_once.messages.state_changes import *
from airflow_provider_bitrix24.at_most_once.messages.wording import *
