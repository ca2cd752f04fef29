//! What is particular to SQLite: the file, its mode, its damages.

use super::*;

async fn refused(path: &Path) -> Error {
    SqliteStore::open(path).await.err().unwrap()
}

#[tokio::test]
async fn the_file_is_private_and_a_restart_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kerbgate.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let lease = Lease {
        name: "n".to_owned(),
        holder: "a".to_owned(),
        until: 100,
    };
    assert!(store.take_lease(&lease, 1).await.unwrap());
    for name in ["kerbgate.db", "kerbgate.db-wal", "kerbgate.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    store.close().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let again = SqliteStore::open(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = Lease {
        holder: "b".to_owned(),
        ..lease
    };
    assert!(!again.take_lease(&other, 2).await.unwrap());
}

#[tokio::test]
async fn damaged_and_foreign_files_are_named_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("letter.txt");
    std::fs::write(&text, "Dear database, ".repeat(1000)).unwrap();
    assert!(matches!(refused(&text).await, Error::NotADatabase { .. }));

    assert!(matches!(
        refused(dir.path()).await,
        Error::Unopenable { .. }
    ));
    let nowhere = dir.path().join("no/such/kerbgate.db");
    let error = refused(&nowhere).await;
    assert!(matches!(error, Error::Unopenable { .. }));
    assert!(error.to_string().contains("no/such/kerbgate.db"), "{error}");

    let torn = dir.path().join("torn.db");
    SqliteStore::open(&torn).await.unwrap().close().await;
    let mut bytes = std::fs::read(&torn).unwrap();
    // Keep the header page, ruin the rest.
    bytes.iter_mut().skip(4096).for_each(|b| *b = 0x5a);
    std::fs::write(&torn, &bytes).unwrap();
    let error = refused(&torn).await;
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");

    let newer = dir.path().join("newer.db");
    let store = SqliteStore::open(&newer).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'")
        .execute(&store.write)
        .await
        .unwrap();
    store.close().await;
    assert!(matches!(refused(&newer).await, Error::Schema { .. }));
}

#[tokio::test]
async fn a_full_disk_is_called_full() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("full.db"))
        .await
        .unwrap();
    sqlx::query("PRAGMA max_page_count = 1")
        .execute(&store.write)
        .await
        .unwrap();
    let mut outcome = Ok(true);
    for n in 0..500 {
        let lease = Lease {
            name: format!("{n}{}", "x".repeat(200)),
            holder: "a".to_owned(),
            until: 100,
        };
        outcome = store.take_lease(&lease, 1).await;
    }
    assert!(matches!(outcome, Err(Error::Full { .. })), "{outcome:?}");
    store.ping().await.unwrap();
}
