/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ports.h"

static void
check_defaults(const struct port_settings *p)
{
	static const struct port_settings zero;

	assert_false(p->client);
	assert_int_equal(p->vlan, 0);
	assert_false(port_is_trunk(p));
	assert_memory_equal(&p->trunk, &zero.trunk, sizeof(p->trunk));
	assert_int_equal(p->nb_macs, 0);
	assert_int_equal(p->learn, 8);
	assert_false(p->source_check);
	assert_true(p->flood);
	assert_false(p->isolated);
	assert_int_equal(p->rate, 0);
	assert_int_equal(p->rate_to, 0);
	assert_int_equal(p->frames, 0);
	assert_int_equal(p->storm, 0);
	assert_true(p->link_up);
	assert_true(p->offload);
}

static void
test_defaults(void **state)
{
	struct ports_config *ports = load_good("name=a,socket=/run/a", NULL, "[port b]\n"
		"socket = b");
	char where[64];

	(void)state;
	assert_int_equal(ports->n, 2);
	assert_string_equal(ports->port[0].name, "a");
	assert_string_equal(ports->port[0].socket, "/run/a");
	assert_false(ports->port[0].from_file);
	assert_string_equal(ports->port[1].name, "b");
	assert_true(ports->port[1].from_file);
	check_defaults(&ports->port[0]);
	check_defaults(&ports->port[1]);
	assert_int_equal(ports->mac_age, 300);
	assert_true(ports->flood_unknown);
	assert_string_equal(ports_where(ports, &ports->port[0], where, sizeof(where)), "--port a");
	assert_string_equal(ports_where(ports, &ports->port[1], where, sizeof(where)),
		FILE_NAME ": [port b]");
	assert_ptr_equal(ports_find(ports, "b"), &ports->port[1]);
	assert_null(ports_find(ports, "c"));
	ports_free(ports);
}

static void
check_every_key(const struct port_settings *p)
{
	assert_string_equal(p->name, "A.z_0-9");
	assert_string_equal(p->socket, "/run/s k");
	assert_true(p->client);
	assert_int_equal(p->vlan, 4094);
	assert_true(port_is_trunk(p));
	assert_true(vlan_set_has(&p->trunk, 10) && vlan_set_has(&p->trunk, 63));
	assert_true(vlan_set_has(&p->trunk, 64) && vlan_set_has(&p->trunk, 4094));
	assert_false(vlan_set_has(&p->trunk, 11) || vlan_set_has(&p->trunk, 65));
	assert_int_equal(p->nb_macs, 2);
	assert_int_equal(p->mac[0].addr_bytes[5], 1); /* sorted */
	assert_int_equal(p->mac[1].addr_bytes[5], 0xab);
	assert_int_equal(p->learn, 1024);
	assert_true(p->source_check);
	assert_false(p->flood);
	assert_true(p->isolated);
	assert_int_equal(p->rate, 1000000000000);
	assert_int_equal(p->rate_to, 2500000);
	assert_int_equal(p->frames, 1000000000);
	assert_int_equal(p->storm, 7000);
	assert_false(p->link_up);
	assert_false(p->offload);
}

static void
test_every_key(void **state)
{
	struct ports_config *ports;
	char text[1000];

	(void)state;
	ports = load_good("storm=7k,name=A.z_0-9,socket=/run/s k,mode=client,vlan=4094,"
		"trunk=10;63-64;4094,mac=02:00:00:00:00:AB;02:00:00:00:00:01,learn=1024,"
		"source-check=yes,flood=no,isolated=yes,rate=1000G,rate-to=2500k,"
		"frames=1000M,link=down,offload=no", NULL, NULL);
	check_every_key(&ports->port[0]);
	ports_free(ports);
	ports = load_good(NULL, NULL, "  [port \t A.z_0-9 ]  # a comment\r\nsocket=/run/s k\n"
		"mode =client\n\tvlan= 4094 # one\ntrunk = 10; 63-64 ;4094\n"
		"mac=02:00:00:00:00:01;\t02:00:00:00:00:ab\nlearn=1024\nsource-check=yes\n"
		"flood=no\nisolated=yes\nrate=1000G\nrate-to=2500000\nframes=1000M\nstorm=7k\n"
		"link=down\noffload=no\n\n[switch]\nmac-age=1\nflood-unknown=no");
	check_every_key(&ports->port[0]);
	assert_int_equal(ports->mac_age, 1);
	assert_false(ports->flood_unknown);
	ports_free(ports);
	/* more blanks than a line of rte_cfgfile has room for */
	snprintf(text, sizeof(text), WEB "vlan%300s %300s10\n", "=", "");
	ports = load_good(NULL, NULL, text);
	assert_int_equal(ports->port[0].vlan, 10);
	ports_free(ports);
}

/* Values at the ends of their ranges, and what the defaults are when they are given. */
static void
test_ends_of_ranges(void **state)
{
	struct ports_config *ports;
	unsigned int vlan;

	(void)state;
	ports = load_good("name=abcdefghijklmnopqrstuvwxyz01234,socket=w,mode=server,vlan=none,"
		"trunk=none,mac=none,learn=0,rate=0,rate-to=1k,frames=1,storm=0k", NULL,
		"[switch]\nmac-age=1000000\n");
	assert_false(port_is_trunk(&ports->port[0]));
	assert_int_equal(ports->port[0].nb_macs, 0);
	assert_int_equal(ports->port[0].learn, 0);
	assert_int_equal(ports->port[0].rate_to, 1000);
	assert_int_equal(ports->port[0].frames, 1);
	assert_int_equal(ports->port[0].storm, 0);
	assert_int_equal(ports->mac_age, 1000000);
	ports_free(ports);
	ports = load_good("name=a,socket=w,vlan=1,trunk=all", NULL, NULL);
	for (vlan = 0; vlan < VLAN_NUM; vlan++)
		assert_int_equal(vlan_set_has(&ports->port[0].trunk, (uint16_t)vlan),
			vlan > 0 && vlan < 4095);
	ports_free(ports);
}

static void
test_most_addresses(void **state)
{
	char text[64 + 18 * (PORT_MAC_MAX + 1)];
	struct ports_config *ports;
	int i, len = sprintf(text, "name=a,socket=w,mac=");

	(void)state;
	for (i = 0; i <= PORT_MAC_MAX; i++) {
		len += sprintf(text + len, "%s02:00:00:00:00:%02x", i == 0 ? "" : ";", i);
		ports = load(text, NULL, NULL);
		assert_int_equal(ports != NULL, i < PORT_MAC_MAX);
		if (ports != NULL)
			assert_int_equal(ports->port[0].nb_macs, i + 1);
		ports_free(ports);
	}
}

/* A file that has no port is one. */
static void
test_empty_files(void **state)
{
	static const char * const files[] = { "", "\n\n", "# nothing\n   # more", "[switch]\n",
		"[switch]\nmac-age = 300\n" };
	struct ports_config *ports;
	unsigned int i;

	(void)state;
	for (i = 0; i < RTE_DIM(files); i++) {
		ports = load_good(NULL, NULL, files[i]);
		assert_int_equal(ports->n, 0);
		assert_int_equal(ports->mac_age, 300);
		ports_free(ports);
	}
	ports = load_good(NULL, NULL, NULL);
	assert_int_equal(ports->n, 0);
	ports_free(ports);
}

static void
test_domains(void **state)
{
	struct ports_config *ports;

	(void)state;
	ports = load_good("name=a,socket=a,trunk=10;20", "name=b,socket=b,vlan=10,trunk=10;30",
		"[port c]\nsocket=c\n");
	assert_false(port_in_domain(&ports->port[0], 0));
	assert_true(port_in_domain(&ports->port[0], 20));
	assert_false(port_in_domain(&ports->port[0], 30));
	assert_false(port_in_domain(&ports->port[1], 0));
	assert_true(port_in_domain(&ports->port[1], 10));
	assert_true(port_in_domain(&ports->port[1], 30));
	assert_true(port_in_domain(&ports->port[2], 0));
	assert_false(port_in_domain(&ports->port[2], 10));
	ports_free(ports);
	/* the same address in other domains is another station */
	ports = load_good("name=a,socket=a,vlan=1,mac=02:00:00:00:00:01",
		"name=b,socket=b,trunk=2-4094,mac=02:00:00:00:00:01",
		"[port c]\nsocket=c\nmac=02:00:00:00:00:01\n");
	ports_free(ports);
}

#define ARGUMENT(port, line) { .first = port, .says = line }
#define VALUE(key, value, accepts) { .first = "name=web,socket=w," key "=" value, \
	.says = "--port web " key ": invalid value '" value "': it accepts " accepts }
#define CONTENT(text, line) { .file = text, .says = FILE_NAME line }
#define NAME_ACCEPTS "1 to 31 characters of a-z A-Z 0-9 . _ -"
#define PATH_ACCEPTS "the path of a vhost-user socket, at most 107 bytes"
#define TRUNK_ACCEPTS "VLANs from 1 to 4094 and ranges, as 10;20;100-199, or all, or none"
#define MAC_ACCEPTS "up to 64 unicast addresses, as 02:00:00:00:00:01;02:00:00:00:00:02, or none"
#define RATE_ACCEPTS "bits per second from 1k to 1000G, or 0 for no limit"
#define FRAMES_ACCEPTS "frames per second from 1 to 1000M, or 0 for no limit"
#define KEYS "socket, mode, vlan, trunk, mac, learn, source-check, flood, isolated, rate, " \
	"rate-to, frames, storm, link, offload"
#define FORM "it must have a key and a value, with a comma to the next"
#define A_LINE ": a line must be that, a section or a comment with #"
#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

/* Each is one line, which has all of says, and no list. */
static const struct {
	const char *first, *second, *file, *says;
} bad[] = {
	ARGUMENT("socket=w", "--port socket=w name: the key is missing: it accepts " NAME_ACCEPTS),
	ARGUMENT("name=web", "--port web socket: the key is missing: it accepts " PATH_ACCEPTS),
	ARGUMENT("name=we b,socket=w", "--port we b name: invalid value 'we b': it accepts "
		NAME_ACCEPTS),
	ARGUMENT("name=w\303\244b,socket=w", "name: invalid value 'w\303\244b': it accepts"),
	ARGUMENT("name=a/b,socket=w", "--port a/b name: invalid value 'a/b': it accepts"),
	ARGUMENT("name=a\nb,socket=w", "--port a?b name: invalid value 'a?b': it accepts"),
	ARGUMENT("name=abcdefghijklmnopqrstuvwxyz012345,socket=w", "name: invalid value "
		"'abcdefghijklmnopqrstuvwxyz012345': it accepts " NAME_ACCEPTS),
	ARGUMENT("name=web,socket=" HUNDRED "01234567", "--port web socket: invalid value "
		"'" TEN TEN TEN TEN TEN TEN "0123...': it accepts " PATH_ACCEPTS),
	ARGUMENT("name", "--port name: 'name' is not KEY=VALUE: " FORM),
	ARGUMENT("name=web,socket", "--port name=web,socket: 'socket' is not KEY=VALUE: " FORM),
	ARGUMENT("name=web,socket=", "'socket=' is not KEY=VALUE: " FORM),
	ARGUMENT("name=web,=w", "'=w' is not KEY=VALUE: " FORM),
	ARGUMENT("name=web,,socket=w", "'' is not KEY=VALUE: " FORM),
	ARGUMENT("name=web,socket=w,", "'' is not KEY=VALUE: " FORM),
	ARGUMENT("name=web,socket=w=x", "'socket=w=x' has a character that a value can have only "
		"in a file: '=' or '['"),
	ARGUMENT("name=web,socket=[w,mode=server]", "'socket=[w' has a character that a value can "
		"have only in a file"),
	ARGUMENT("name=web,socket=w,colour=red", "--port web: unknown key 'colour': it accepts "
		"name, " KEYS),
	ARGUMENT("name=web, socket=w", "--port web: unknown key ' socket': it accepts name, " KEYS),
	ARGUMENT("name=web,socket=w,mac-age=3", "--port web: unknown key 'mac-age': it accepts"),
	ARGUMENT("name=web,socket=w,vlan=1,vlan=1", "--port web vlan: the key is given twice: it "
		"must be unique"),
	ARGUMENT("name=web,socket=w,name=db", "--port web name: the key is given twice"),
	ARGUMENT("a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,"
		"a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1", "it has 33 keys: it must "
		"have at most 32"),
	VALUE("mode", "Server", "server or client"),
	VALUE("vlan", "0", "1 to 4094, or none"),
	VALUE("vlan", "4095", "1 to 4094, or none"),
	VALUE("vlan", "-1", "1 to 4094, or none"),
	VALUE("vlan", "10x", "1 to 4094, or none"),
	VALUE("vlan", "65537", "1 to 4094, or none"),
	VALUE("vlan", "all", "1 to 4094, or none"),
	VALUE("trunk", "0", TRUNK_ACCEPTS),
	VALUE("trunk", "4095", TRUNK_ACCEPTS),
	VALUE("trunk", "20-10", TRUNK_ACCEPTS),
	VALUE("trunk", "10-", TRUNK_ACCEPTS),
	VALUE("trunk", "-10", TRUNK_ACCEPTS),
	VALUE("trunk", "1-2-3", TRUNK_ACCEPTS),
	VALUE("trunk", "10;;20", TRUNK_ACCEPTS),
	VALUE("trunk", "10;", TRUNK_ACCEPTS),
	VALUE("trunk", "10;all", TRUNK_ACCEPTS),
	VALUE("trunk", "10 20", TRUNK_ACCEPTS),
	VALUE("mac", "02:00:00:00:00", MAC_ACCEPTS),
	VALUE("mac", "02:00:00:00:00:0g", MAC_ACCEPTS),
	VALUE("mac", "02:00:00:00:00:01:02", MAC_ACCEPTS),
	VALUE("mac", "2:0:0:0:0:1", MAC_ACCEPTS),
	VALUE("mac", "0200.0000.0001", MAC_ACCEPTS),
	VALUE("mac", "00:00:00:00:00:00", MAC_ACCEPTS),
	VALUE("mac", "01:00:5e:00:00:01", MAC_ACCEPTS),
	VALUE("mac", "ff:ff:ff:ff:ff:ff", MAC_ACCEPTS),
	VALUE("mac", "02:00:00:00:00:0a;02:00:00:00:00:0A", MAC_ACCEPTS),
	VALUE("mac", "02:00:00:00:00:01;", MAC_ACCEPTS),
	VALUE("learn", "1025", "a number from 0 to 1024"),
	VALUE("learn", "4294967296", "a number from 0 to 1024"),
	VALUE("source-check", "1", "yes or no"),
	VALUE("flood", "true", "yes or no"),
	VALUE("isolated", "YES", "yes or no"),
	VALUE("offload", "on", "yes or no"),
	VALUE("link", "off", "up or down"),
	VALUE("rate", "999", RATE_ACCEPTS),
	VALUE("rate", "1001G", RATE_ACCEPTS),
	VALUE("rate", "18446744073709551615G", RATE_ACCEPTS),
	VALUE("rate", "18446744073709551616", RATE_ACCEPTS),
	VALUE("rate", "10m", RATE_ACCEPTS),
	VALUE("rate", "1.5G", RATE_ACCEPTS),
	VALUE("rate", "k", RATE_ACCEPTS),
	VALUE("rate-to", "10kk", RATE_ACCEPTS),
	VALUE("rate-to", "+1M", RATE_ACCEPTS),
	VALUE("frames", "2G", FRAMES_ACCEPTS),
	VALUE("storm", "-1", FRAMES_ACCEPTS),
	CONTENT("[port web]\nsocket=w\nvlan=5000", ": [port web] vlan: invalid value '5000': it "
		"accepts 1 to 4094, or none"),
	CONTENT("[port web]\nsocket=\n", ": [port web] socket: invalid value '': it accepts "
		PATH_ACCEPTS),
	CONTENT("[port web]\n", ": [port web] socket: the key is missing: it accepts"),
	CONTENT("[port]\nsocket=w\n", ": [port] name: invalid value '': it accepts " NAME_ACCEPTS),
	CONTENT("[port a b]\nsocket=w\n", ": [port a b] name: invalid value 'a b': it accepts"),
	CONTENT(WEB "name=db\n", ": [port web] name: the name of a port in a file must be in its "
		"section's title, [port NAME]"),
	CONTENT(WEB "colour=red\n", ": [port web]: unknown key 'colour': it accepts " KEYS),
	CONTENT(WEB "Vlan=1\n", ": [port web]: unknown key 'Vlan': it accepts " KEYS),
	CONTENT(WEB "vlan=1\nflood=no\nvlan=2\n", ": [port web] vlan: the key is given twice"),
	CONTENT(WEB WEB, ": [port web]: the name is also that of " FILE_NAME ": [port web]: it "
		"must be unique"),
	CONTENT(WEB "[port db]\nsocket=w\n", ": [port db] socket: 'w' is also that of "
		FILE_NAME ": [port web]: it must be unique"),
	CONTENT("[ports]\n", ": [ports]: unknown section: it must be [port NAME] or [switch]"),
	CONTENT("[]\n", ": []: unknown section: it must be"),
	CONTENT("[Switch]\n", ": [Switch]: unknown section: it must be"),
	CONTENT("[switch]\n[switch]\n", ": [switch]: the section is there twice: it must be "
		"unique"),
	CONTENT("[switch]\nvlan=1\n", ": [switch]: unknown key 'vlan': it accepts mac-age, "
		"flood-unknown"),
	CONTENT("[switch]\nmac-age=0\n", ": [switch] mac-age: invalid value '0': it accepts "
		"seconds from 1 to 1000000"),
	CONTENT("[switch]\nflood-unknown=maybe\n", ": [switch] flood-unknown: invalid value "
		"'maybe': it accepts yes or no"),
	CONTENT("\nvlan=1\n[port web]\n", ":2: 'vlan=1' is before the first section: it must "
		"follow [port NAME] or [switch]"),
	CONTENT(WEB "isolated\n", ":3: 'isolated' is not KEY = VALUE" A_LINE),
	CONTENT(WEB "= 1\n", ":3: '= 1' is not KEY = VALUE" A_LINE),
	CONTENT(WEB "; vlan: 1\n", ":3: '; vlan: 1' is not KEY = VALUE" A_LINE),
	CONTENT("[port web\nsocket=w\n", ":1: '[port web' is not a section: it must be [port NAME] "
		"or [switch]"),
	CONTENT("[port web] socket=w\n", ":1: '[port web] socket=w' is not a section"),
	CONTENT("[port web] ; socket\n", ":1: '[port web] ; socket' is not a section"),
	CONTENT("[port web]\nsocket=/run/a#b\n", ":2: 'socket=/run/a#b' has a '#' in a word: a "
		"comment must begin the line or follow a blank"),
	CONTENT(WEB "trunk=\\#1\n", ":3: 'trunk=\\#1' has a '#' in a word"),
	CONTENT("[port                                                            web]\n", ":1: "
		"the section has a title of 67 characters: it must have at most 63"),
	CONTENT(WEB HUNDRED " = 1\n", ":3: the key has 100 characters: it must have at most 63"),
	CONTENT(WEB "trunk = " HUNDRED HUNDRED HUNDRED "\n", ":3: trunk has a value of 300 "
		"characters: in a file it must have at most 255"),
	{ .first = "name=a,socket=x", .second = "name=a,socket=y", .says = "--port a: the name is "
		"also that of --port a: it must be unique" },
	{ .first = "name=a,socket=x", .second = "name=b,socket=x", .says = "--port b socket: 'x' "
		"is also that of --port a: it must be unique" },
	{ .first = "name=web,socket=x", .file = WEB, .says = FILE_NAME ": [port web]: the name is "
		"also that of --port web: it must be unique" },
	{ .first = "name=a,socket=x,mac=02:00:00:00:00:01;02:00:00:00:00:03",
		.second = "name=b,socket=y,mac=02:00:00:00:00:03;02:00:00:00:00:02",
		.says = "--port b mac: 02:00:00:00:00:03 is also a static address of --port a in "
			"the untagged network: it must be unique there" },
	{ .first = "name=a,socket=x,vlan=10,mac=02:00:00:00:00:01",
		.second = "name=b,socket=y,trunk=5-15,mac=02:00:00:00:00:01",
		.says = "of --port a in VLAN 10: it must be unique there" },
	{ .first = "name=a,socket=x,trunk=all,vlan=1,mac=02:00:00:00:00:01",
		.second = "name=b,socket=y,vlan=4094,mac=02:00:00:00:00:01",
		.says = "of --port a in VLAN 4094: it must be unique there" },
	{ .first = "name=a,socket=x,trunk=1000-2000,vlan=1,mac=02:00:00:00:00:01",
		.second = "name=b,socket=y,vlan=2,trunk=2000-3000,mac=02:00:00:00:00:01",
		.says = "of --port a in VLAN 2000: it must be unique there" },
};

static void
test_bad_input(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < RTE_DIM(bad); i++) {
		assert_null(load(bad[i].first, bad[i].second, bad[i].file));
		if (strstr(error.text, bad[i].says) == NULL)
			fail_msg("%s\nlacks\n%s", error.text, bad[i].says);
		assert_null(strchr(error.text, '\n'));
	}
}

static void
check_file(const char *file, const char *says)
{
	struct config cfg = { .config_file = file };

	assert_null(ports_load(&cfg, &error));
	assert_string_equal(error.text, says);
}

static void
test_bad_files(void **state)
{
	static char large[(8 << 20) + 1];

	(void)state;
	check_file("none.conf", "--config none.conf cannot be read: No such file or directory");
	assert_int_equal(mkdir("dir.conf", 0700), 0);
	check_file("dir.conf", "--config dir.conf is not a regular file: it must be one");
	assert_int_equal(rmdir("dir.conf"), 0);
	assert_int_equal(mkfifo("fifo.conf", 0700), 0);
	check_file("fifo.conf", "--config fifo.conf is not a regular file: it must be one");
	assert_int_equal(unlink("fifo.conf"), 0);
	write_bytes("[switch]\n\0x", 11);
	check_file(FILE_NAME, "--config " FILE_NAME " has a zero byte: it must be text");
	write_bytes("\357\273\277" WEB, 3 + strlen(WEB));
	check_file(FILE_NAME, "--config " FILE_NAME " begins with a byte order mark, which editors "
		"do not show: it must be text without one");
	memset(large, '\n', sizeof(large));
	write_bytes(large, sizeof(large));
	check_file(FILE_NAME, "--config " FILE_NAME " is too large: it must have less than 8388608 "
		"bytes");
}

/* As many as there can be, and one too many; with another from --port. */
static void
test_most_ports(void **state)
{
	static char text[64 * (PORT_MAX + 1)];
	struct ports_config *ports;
	int i, len = 0;

	(void)state;
	for (i = 0; i < PORT_MAX; i++)
		len += sprintf(text + len, "[port p%d]\nsocket=/run/%d\n", i, i);
	ports = load_good(NULL, NULL, text);
	assert_int_equal(ports->n, PORT_MAX);
	assert_string_equal(ports->port[PORT_MAX - 1].name, "p511");
	ports_free(ports);
	assert_null(load("name=one,socket=one", NULL, text));
	assert_string_equal(error.text, FILE_NAME ": [port p511]: it is one port too many: there "
		"can be at most 512, those of --port included");
}

/* The line names the file even if its name is long. */
static void
test_long_file_name(void **state)
{
	char name[4000];
	struct config cfg = { .config_file = name };

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_null(ports_load(&cfg, &error));
	assert_non_null(strstr(error.text, "cannot be read: File name too long"));
}

/* What is installed as a sample, from the tree that this program was built in. */
static void
test_the_sample(void **state)
{
	char path[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 32);
	struct config cfg = { .config_file = path };
	struct ports_config *ports;
	char *slash;

	(void)state;
	assert_true(len > 0);
	path[len] = '\0';
	while ((slash = strrchr(path, '/')) != NULL) {
		strcpy(slash, "/packaging/ports.conf");
		if (access(path, R_OK) == 0)
			break;
		*slash = '\0';
	}
	ports = ports_load(&cfg, &error);
	if (ports == NULL)
		fail_msg("%s", error.text);
	assert_int_equal(ports->n, 4);
	assert_int_equal(ports_find(ports, "web")->vlan, 10);
	assert_int_equal(ports_find(ports, "web")->storm, 1000);
	assert_true(ports_find(ports, "database")->client);
	assert_true(vlan_set_has(&ports_find(ports, "router")->trunk, 29));
	assert_false(ports_find(ports, "plain")->link_up);
	ports_free(ports);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_key),
		cmocka_unit_test(test_ends_of_ranges),
		cmocka_unit_test(test_most_addresses),
		cmocka_unit_test(test_empty_files),
		cmocka_unit_test(test_domains),
		cmocka_unit_test(test_bad_input),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_most_ports),
		cmocka_unit_test(test_long_file_name),
		cmocka_unit_test(test_the_sample),
	};

	return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
