/* SPDX-License-Identifier: BSD-3-Clause */
#include "ports.h"

static void
test_compare_nothing(void **state)
{
	struct ports_config *a = load_good("name=a,socket=a", NULL, WEB "trunk=1;2\nmac="
		"02:00:00:00:00:01;02:00:00:00:00:02\n[switch]\nmac-age=5\n");
	struct ports_config *b = load_good(NULL, NULL, "[switch]\nmac-age=5\n" WEB "trunk=1-2\n"
		"mac=02:00:00:00:00:02;02:00:00:00:00:01\nflood=yes\n[port a]\nsocket=a\n");
	static struct ports_changes changes;
	char text[64];

	(void)state;
	ports_compare(a, b, &changes); /* written in another way, and in another order */
	assert_int_equal(changes.n, 0);
	assert_int_equal(changes.switch_keys, 0);
	assert_string_equal(ports_changes_text(&changes, text, sizeof(text)),
		"0 ports added, 0 removed, 0 changed");
	ports_free(a);
	ports_free(b);
}

static void
test_compare_all_kinds(void **state)
{
	struct ports_config *a = load_good("name=same,socket=s", NULL, "[port gone]\nsocket=g\n"
		"[port moved]\nsocket=m\nvlan=2\n[port changed]\nsocket=c\nvlan=3\n");
	struct ports_config *b = load_good("name=same,socket=s", NULL, "[port new]\nsocket=g\n"
		"[port changed]\nsocket=c\nvlan=4\nlink=down\n[port moved]\nsocket=n\nvlan=3\n"
		"[port newer]\nsocket=x\n[switch]\nflood-unknown=no\n");
	static struct ports_changes changes;
	const struct port_change *c = changes.port;
	char text[64];

	(void)state;
	ports_compare(a, b, &changes);
	assert_int_equal(changes.n, 5);
	assert_int_equal(changes.switch_keys, RTE_BIT32(SWITCH_KEY_FLOOD_UNKNOWN));
	assert_int_equal(c[0].kind, PORT_REMOVED);
	assert_string_equal(c[0].before->name, "gone");
	assert_null(c[0].after);
	assert_int_equal(c[1].kind, PORT_REPLACED);
	assert_int_equal(c[1].keys, RTE_BIT32(PORT_KEY_SOCKET) | RTE_BIT32(PORT_KEY_VLAN));
	assert_string_equal(c[1].before->socket, "m");
	assert_string_equal(c[1].after->socket, "n");
	assert_int_equal(c[2].kind, PORT_CHANGED);
	assert_int_equal(c[2].keys, RTE_BIT32(PORT_KEY_LINK) | RTE_BIT32(PORT_KEY_VLAN));
	assert_int_equal(c[2].after->vlan, 4);
	assert_int_equal(c[3].kind, PORT_ADDED);
	assert_string_equal(c[3].after->name, "new");
	assert_null(c[3].before);
	assert_string_equal(c[4].after->name, "newer");
	assert_string_equal(ports_changes_text(&changes, text, sizeof(text)),
		"3 ports added, 2 removed, 1 changed");
	ports_free(a);
	ports_free(b);
}

/* Each key by itself: whether the port stays. */
static void
test_compare_each_key(void **state)
{
	static const struct {
		const char *set;
		enum port_key key;
		enum port_change_kind kind;
	} keys[] = {
		{ "socket=other", PORT_KEY_SOCKET, PORT_REPLACED },
		{ "socket=w,mode=client", PORT_KEY_MODE, PORT_REPLACED },
		{ "socket=w,offload=no", PORT_KEY_OFFLOAD, PORT_REPLACED },
		{ "socket=w,vlan=9", PORT_KEY_VLAN, PORT_CHANGED },
		{ "socket=w,trunk=4000", PORT_KEY_TRUNK, PORT_CHANGED },
		{ "socket=w,mac=02:00:00:00:00:01", PORT_KEY_MAC, PORT_CHANGED },
		{ "socket=w,learn=9", PORT_KEY_LEARN, PORT_CHANGED },
		{ "socket=w,source-check=yes", PORT_KEY_SOURCE_CHECK, PORT_CHANGED },
		{ "socket=w,flood=no", PORT_KEY_FLOOD, PORT_CHANGED },
		{ "socket=w,isolated=yes", PORT_KEY_ISOLATED, PORT_CHANGED },
		{ "socket=w,rate=1M", PORT_KEY_RATE, PORT_CHANGED },
		{ "socket=w,rate-to=1M", PORT_KEY_RATE_TO, PORT_CHANGED },
		{ "socket=w,frames=1", PORT_KEY_FRAMES, PORT_CHANGED },
		{ "socket=w,storm=1", PORT_KEY_STORM, PORT_CHANGED },
		{ "socket=w,link=down", PORT_KEY_LINK, PORT_CHANGED },
	};
	static struct ports_changes changes;
	unsigned int i, seen = RTE_BIT32(PORT_KEY_NAME);

	(void)state;
	for (i = 0; i < RTE_DIM(keys); i++) {
		char text[128];
		struct ports_config *a = load_good("name=web,socket=w", NULL, NULL), *b;

		snprintf(text, sizeof(text), "name=web,%s", keys[i].set);
		b = load_good(text, NULL, NULL);
		ports_compare(a, b, &changes);
		assert_int_equal(changes.n, 1);
		assert_int_equal(changes.port[0].kind, keys[i].kind);
		assert_int_equal(changes.port[0].keys, RTE_BIT32(keys[i].key));
		seen |= changes.port[0].keys;
		ports_free(a);
		ports_free(b);
	}
	assert_int_equal(seen, RTE_BIT32(SWITCH_KEY_FIRST) - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compare_nothing),
		cmocka_unit_test(test_compare_all_kinds),
		cmocka_unit_test(test_compare_each_key),
	};

	return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
