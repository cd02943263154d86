BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE measurements (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	name TEXT NOT NULL, 
	created DOUBLE NOT NULL, 
	scenario_json TEXT, 
	value_json TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
INSERT INTO "measurements" VALUES(1,1,'1495583c47eb','ttft_ms',4.5,'{"batch":1}','{"value":3.5,"source":"measured","error":0.1}');
CREATE TABLE studies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name TEXT NOT NULL, 
	created DOUBLE NOT NULL, 
	space_digest TEXT NOT NULL, 
	space_json TEXT NOT NULL, 
	config_json TEXT NOT NULL, 
	UNIQUE (name)
);
INSERT INTO "studies" VALUES(1,'small',1700000000.25,'ab12','{}','{"plan":{"trials":3}}');
CREATE TABLE trials (
	study_id INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	revision BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	evaluator TEXT NOT NULL, 
	steps BIGINT NOT NULL, 
	seed BIGINT NOT NULL, 
	started DOUBLE NOT NULL, 
	finished DOUBLE, 
	worker TEXT NOT NULL, 
	reused INTEGER, 
	reason TEXT, 
	genotype_json TEXT NOT NULL, 
	values_json TEXT NOT NULL, 
	memo_json TEXT NOT NULL, heard INTEGER, told INTEGER, 
	PRIMARY KEY (study_id, stage, number), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
INSERT INTO "trials" VALUES(1,'search',0,1,'complete','1495583c47eb','supernet',10,0,1.5,2.5,'driver',NULL,NULL,'{"depth":0}','{"bits_per_byte":{"value":1.25,"source":"supernet","error":0.01,"samples":[1.0,1.5]}}','{"parents":[1,2]}',NULL,NULL);
INSERT INTO "trials" VALUES(1,'search',1,2,'running','db90439cdc71','supernet',10,0,1.5,NULL,'driver',NULL,'loss is nan','{"depth":1}','{}','{}',NULL,NULL);
INSERT INTO "trials" VALUES(1,'final',0,3,'complete','1495583c47eb','supernet',10,0,1.5,2.5,'driver',0,NULL,'{"depth":0}','{"bits_per_byte":{"value":1.25,"source":"supernet","error":0.01,"samples":[1.0,1.5]}}','{}',NULL,NULL);
CREATE INDEX trials_by_digest ON trials (study_id, digest);
CREATE INDEX trials_by_revision ON trials (study_id, revision);
CREATE INDEX measurements_by_digest ON measurements (study_id, digest);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('studies',1);
COMMIT;
