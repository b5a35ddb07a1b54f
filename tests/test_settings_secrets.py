"""The server's secret: made once and kept, or given and long enough."""

import pytest

from settings import SettingsRefused, from_environment


def test_a_short_secret_key_refuses_to_start_and_is_not_repeated(tmp_path):
    with pytest.raises(SettingsRefused, match="at least 32 characters") as refused:
        from_environment({"FLOTILLA_DATA_DIR": str(tmp_path), "SECRET_KEY": "swordfish" * 3})

    assert "swordfish" not in str(refused.value)


def test_a_secret_key_of_32_characters_is_taken(tmp_path):
    assert from_environment({"FLOTILLA_DATA_DIR": str(tmp_path), "SECRET_KEY": "k" * 32}).secret_key == "k" * 32


def test_without_one_the_data_folder_keeps_its_own(tmp_path):
    first = from_environment({"FLOTILLA_DATA_DIR": str(tmp_path)}).secret_key

    assert len(first) == 43
    assert from_environment({"FLOTILLA_DATA_DIR": str(tmp_path)}).secret_key == first


def test_downloads_are_sent_on_to_a_bucket_alone(tmp_path):
    said = {"FLOTILLA_DATA_DIR": str(tmp_path), "BLOB_PRESIGNED": "on"}

    with pytest.raises(SettingsRefused, match="needs BLOB_URL"):
        from_environment(said)
    assert from_environment({**said, "BLOB_URL": "s3://fleet"}).blob_presigned is True
