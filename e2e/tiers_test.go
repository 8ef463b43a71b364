package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// Every test of this package that uses lab hosts is in exactly one of these lists.
// TestEveryScenarioIsInOneTier holds that without hosts, in make test.

// core is what make e2e runs, and with it CI. Scenarios begin in this order: the first
// two leave the clusters that others use, and long ones come before short ones.
var core = []string{
	"TestUpGoesOnAfterKillsAndALostHost",
	"TestBringUp",
	"TestPatchUpgradeThenAWorkerLeaves",
	"TestDrillOfThreeFaults",
	"TestFirstMasterPoweredOff",
	"TestRebootOfEveryHost",
	"TestDeadMasterIsReplaced",
	"TestDriftIsNamedAndUndone",
	"TestSecondUpChangesNothing",
	"TestSnapshotIsSavedVerifiedAndRefused",
	"TestCertificatesAreReported",
	"TestCertificatesAreRenewedWithoutARestart",
	"TestRestoreAfterALostQuorum",
	"TestEtcdRefusesAClientWithoutACertificate",
	"TestAnonymousRequestIsRefused",
	"TestForeignCAIsNeverReplaced",
	"TestNodesServeWithCertificatesOfTheCA",
	"TestPreflightOfARunningClusterPasses",
	"TestLoginsBySudoAndThroughABastion",
	"TestTrixie",
	"TestNetworkOfAHostHeals",
	"TestPreflightNamesHostsAsTheyAre",
	"TestRefusedFlagIsKnownBefore",
	"TestBringUpOnHostsAsTheyAre",
	"TestWhatBelongsToOthersIsNotTouched",
	"TestBadInventoryIsAnError",
}

// extended is what make e2e-all runs after the core.
var extended = []string{
	"TestStatusNamesTheHostWhosePodsReachNothing",
	"TestApiserverThatRefusesAFlagIsPutBack",
	"TestKubeletThatRefusesItsSettingsIsPutBack",
	"TestResetLeavesAHostAsItWas",
	// The lab itself.
	"TestLabHostsAreRealAndDownLeavesNothing",
	"TestLabCutOffHostIsSilentAndRunsOn",
	"TestLabCommandsNameTheHostsThereAre",
	"TestLabPowerCutKeepsDisksAndNothingElse",
	"TestLabReplacedHostIsEmptyAndAnotherOne",
	"TestLabBareHostInstallsItsPackagesWithoutTheInternet",
	"TestLabsWithDifferentNamesDoNotMeet",
	"TestLabBoundsTheProcessorsOfAHost",
	"TestLabDownCleansUpAfterAKilledUp",
	"TestLabDownWorksWithoutTheLabsFolder",
	// A running cluster of three masters and a worker.
	"TestProcessesHaveRealTimePriority",
	"TestLabelsAndTaintsFollowTheInventory",
	"TestRemovedPackageIsNamed",
	"TestWhatAClusterHasOnceIsMadeAgain",
	"TestHostThatIsDownStopsUp",
	"TestOwnerOfTheVIPPoweredOff",
	"TestAllHostsPoweredOff",
	"TestChangedHostKeyIsRefused",
	"TestRebootStopsAtAHostThatStaysAway",
	"TestRebootKilledAgainAndAgainIsCompleted",
	"TestVIPIsWithAHealthyApiserver",
	"TestConnectionOutlivesTheMoveOfTheVIP",
	// Hosts that are replaced, missing, killed.
	"TestClusterOfAnOlderHactlIsTakenOver",
	"TestTakeOverKilledAgainAndAgainIsCompleted",
	"TestOneMasterWhoseAuthorityIsElsewhere",
	"TestOneMasterIsRenewedAndRestoredByOtherLogins",
	"TestExpiredClusterIsBroughtBack",
	"TestRestoreOnEmptyMasters",
	"TestRestoreWithoutADeadMaster",
	"TestRenewedCertificatesOutliveTheOldOnes",
	"TestRenewalKilledAgainAndAgainIsCompleted",
	"TestRestoreKilledAgainAndAgainIsCompleted",
	"TestRehearsalReadsEveryObject",
	"TestSnapshotsAreSavedOnASchedule",
	"TestHostsAreRemoved",
	"TestMasterIsReplacedByAnotherHost",
	"TestDeadMasterReturnsWhileItIsReplaced",
	"TestReplaceRemoveAndResetKilledAreCompleted",
	"TestMastersGrowFromOneToFive",
	"TestReplacedMasterJoinsAgain",
	"TestEtcdDataWipedOnAMaster",
	"TestReplacedMasterJoinsAgainUnderAnotherName",
	"TestHostPoweredOffAtEachStage",
	"TestUpGoesOnWithoutAMasterOnlyWhenTold",
	"TestUpKilledAgainAndAgainConverges",
	// Other versions.
	"TestUpgradeOfAPatch",
	"TestUpgradeOfTwoMinors",
	"TestUpgradeKilledAgainAndAgainIsCompleted",
	"TestUpgradeThatDoesNotComeUpIsPutBack",
	"TestUpgradeIsAborted",
	"TestUpgradeOfFiveMastersStopsAtAPowerCut",
	"TestOlderClusterIsUpgradedAndReset",
	"TestFreshClustersOfOtherMinors",
	"TestUpgradeOfOneMasterAndWorkersInBatches",
	// Other hosts, logins, networks.
	"TestDebMakesAHostTheOperatorsMachine",
	"TestEnterpriseLinux",
	"TestUbuntu",
	"TestOneMasterByEveryLoginThenGrownToThree",
	"TestKubeadmsCertificates",
	"TestGoldenImageIsSentNothing",
	"TestIPv6Cluster",
	"TestFlannelConnectsPodsOfTwoHosts",
	"TestPreflightHearsVRRP",
	"TestSSHTrouble",
	"TestWhatIsPermittedIsTakenOver",
	// The drill.
	"TestDrill",
	"TestDrillRefusesASecondOne",
	"TestDrillFindsAFaultThatDoesNothing",
	"TestDrillFindsASlowVIP",
	"TestKilledDrillHeals",
	"TestEndedDrillUndoesItsFault",
}

// byHand is what only make sweep runs: hours.
var byHand = []string{"TestSweepEveryCut", "TestSweepRandomInstants"}

// machines is what make e2e-vm runs: virtual machines, some ten times slower than hosts in
// namespaces where there is no KVM.
var machines = []string{"TestVirtualMachine"}

// everyScenario is all of them, in the order in which they begin.
var everyScenario = slices.Concat(core, extended, byHand, machines)

func TestEveryScenarioIsInOneTier(t *testing.T) {
	seen := map[string]int{}
	for _, name := range everyScenario {
		seen[name]++
	}
	for _, name := range scenarios(t) {
		if seen[name] != 1 {
			t.Errorf("%s is in %d tiers, want 1: see e2e/tiers_test.go", name, seen[name])
		}
		delete(seen, name)
	}
	for name := range seen {
		t.Errorf("%s is in a tier, and there is no such test", name)
	}
}

// TestFieldScenariosExist holds the list of make e2e-field.
func TestFieldScenariosExist(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(makefile), "\nFIELD :=")
	list, _, _ = strings.Cut(strings.ReplaceAll(list, "\\\n", " "), "\n")
	named := strings.Fields(list)
	if len(named) < 10 {
		t.Fatalf("FIELD has %d scenarios: this test reads the wrong place", len(named))
	}
	there := scenarios(t)
	for _, name := range named {
		if !slices.Contains(there, name) {
			t.Errorf("FIELD of the Makefile names %s, and there is no such test", name)
		}
	}
}

// scenarios are the tests in the files of this package that have the build tag e2e.
func scenarios(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		src, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(src), "//go:build e2e\n") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
				out = append(out, fn.Name.Name)
			}
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d tests found: this test looks in the wrong place", len(out))
	}
	return out
}
